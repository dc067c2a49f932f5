"""Runs the cases of a table in turns: each system once a round, so that a busy minute of the machine hits all alike."""

from __future__ import annotations

import sys
import time

from tests.benchmarks.harness.table import Measured, Scale, Table


def run_rounds(measured: Measured, rounds: int) -> None:
    """Measure into ``measured``, which is right at any moment: who is interrupted keeps what there is.

    Every other round goes backwards, so that nobody always follows the same neighbour. A case that fails is noted, and
    all others go on.
    """
    table = measured.table
    began = time.monotonic()
    for number in range(min(rounds, table.most_rounds or rounds)):
        measured.rounds.append({})
        for case in table.cases if number % 2 == 0 else reversed(table.cases):
            if number >= (case.most_rounds or rounds):
                continue
            say(f"{table.name}: round {number + 1}, {case.system}")
            try:
                found = case.measure(measured.scale)
            except Exception as error:
                measured.failures[f"{case.system}, round {number + 1}"] = f"{type(error).__name__}: {error}"
                say(f"  failed: {type(error).__name__}: {error}")
                continue
            finally:
                measured.seconds = time.monotonic() - began
            for measure, value in found.items():
                measured.rounds[-1].setdefault(measure, {})[case.system] = value
            say("  " + ", ".join(f"{measure} {value:,.4g}" for measure, value in found.items()))


def run_table(table: Table, rounds: int, scale: Scale) -> Measured:
    measured = Measured(table=table, scale=scale)
    run_rounds(measured, rounds)
    return measured


def say(text: str) -> None:
    """Progress, for whoever waits; results go to standard output."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
