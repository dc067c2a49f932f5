"""``python -m tests.chaos [NAME …]``: exit status 1 if a promise was broken or a limit missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.scenarios import SCENARIOS, Options


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", default=["mix"], metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, help="runs to submit, instead of the schedule's number")
    parser.add_argument("--workers", type=int, help="worker processes, instead of the schedule's number")
    parser.add_argument("--folder", type=Path, help="where journal, logs and history are left; default: a new one")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SCENARIOS):
        parser.error(f"no schedule {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    console = Console(width=100 if not sys.stdout.isatty() else None)
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


if __name__ == "__main__":
    sys.exit(main())
