"""``python -m tests.chaos [NAME …]``: exit status 1 if a promise was broken or a limit missed.

Each name is a load with its faults (see faults.py and scenarios/); ``mix`` is every kind of fault at once. The journal,
the workers' logs, Redis' append-only file and history.json are left in the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.checker import check
from tests.chaos.figures import measure
from tests.chaos.history import History
from tests.chaos.report import recovery, show, tell
from tests.chaos.scenarios import SCENARIOS, Options


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["mix"], metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, help="runs to submit, instead of the schedule's number")
    parser.add_argument("--workers", type=int, help="worker processes, instead of the schedule's number")
    parser.add_argument("--folder", type=Path, help="where everything is left; default: a new one")
    parser.add_argument("--check", type=Path, metavar="HISTORY", help="judge a history.json, run nothing")
    arguments = parser.parse_args()
    console = Console(width=100 if not sys.stdout.isatty() else None)
    if arguments.check:
        return _recheck(console, arguments.check)
    if unknown := set(arguments.names) - set(SCENARIOS):
        parser.error(f"no schedule {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="runlane-chaos-"))
    if taken := [name for name in arguments.names if (folder / name).exists()]:
        parser.error(f"{folder / taken[0]} exists: name another folder")
    good = True
    for name in arguments.names:
        console.rule(f"{name}: seed {arguments.seed}, everything is left in {folder / name}")
        options = Options(
            folder=folder / name,
            console=console,
            seed=arguments.seed,
            runs=arguments.runs,
            workers=arguments.workers,
        )
        outcome = asyncio.run(SCENARIOS[name](options))
        outcome.print(console)
        good = good and outcome.good
    return 0 if good else 1


def _recheck(console: Console, path: Path) -> int:
    history = History.model_validate_json(path.read_text())
    violations, figures = check(history), measure(history)
    tell(console, history, violations)
    show(console, str(path), figures, violations, recovery(figures))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
