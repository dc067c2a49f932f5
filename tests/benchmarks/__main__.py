"""``python -m tests.benchmarks [table …]``: measures on this machine, prints tables; README.md holds our figures.

Progress goes to standard error. Results are written to build/bench/results.json, pictures beside it. The exit code is
3 if a measurement failed, 130 after Ctrl-C, which keeps what was measured until then; a missed goal is a finding.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from tests.benchmarks.harness.plots import write_plots
from tests.benchmarks.harness.report import print_tables, write_json
from tests.benchmarks.harness.rounds import run_rounds, say
from tests.benchmarks.harness.table import Measured, Scale
from tests.benchmarks.harness.venvs import BUILD
from tests.benchmarks.tables import TABLES

_FAILED, _INTERRUPTED = 3, 130
#: Columns of a report that goes into a file.
_WIDTH = 140


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"of {', '.join(TABLES)} [all]")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured, in turns [5]")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it works, not to believe it")
    parser.add_argument("--output", type=Path, default=BUILD, help="folder of results and pictures [build/bench]")
    given = parser.parse_args()
    if unknown := [name for name in given.tables if name not in TABLES]:
        parser.error(f"there is no table {', '.join(unknown)}; there is {', '.join(TABLES)}")
    signal.signal(signal.SIGTERM, _interrupt)

    measured: list[Measured] = []
    interrupted = False
    try:
        for name in given.tables or TABLES:
            measured.append(Measured(table=TABLES[name], scale=Scale(quick=given.quick)))
            run_rounds(measured[-1], given.rounds)
            write_json(measured, given.output / "results.json", rounds=given.rounds, quick=given.quick)
    except KeyboardInterrupt:
        interrupted = True
        write_json(measured, given.output / "results.json", rounds=given.rounds, quick=given.quick)
    print_tables(measured, Console() if sys.stdout.isatty() else Console(width=_WIDTH))
    try:
        write_plots(measured, given.output)
    except ImportError:
        say("no pictures: pip install 'runlane[bench]'")
    failed = any(table.failures for table in measured)
    sys.exit(_INTERRUPTED if interrupted else _FAILED if failed else 0)


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()
