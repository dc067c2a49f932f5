"""What was measured, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from runtime_core.embedded import find_redis_server
from tests.benchmarks.harness.figures import Outcome, Verdict, values_of
from tests.benchmarks.harness.table import Measured
from tests.benchmarks.harness.venvs import REQUIREMENTS

_COLOURS = {Verdict.STRETCH: "green", Verdict.REACHED: "green", Verdict.MISSED: "red", Verdict.UNKNOWN: "yellow"}


def print_tables(tables: Sequence[Measured], console: Console) -> None:
    for measured in tables:
        _print(measured, console)
    goals = [one for measured in tables for one in measured.outcomes() if one.verdict is not Verdict.NONE]
    reached = sum(one.verdict in (Verdict.REACHED, Verdict.STRETCH) for one in goals)
    failed = sum(len(measured.failures) for measured in tables)
    judged = sum(one.judged for one in goals)
    told = f"{reached} of {judged} goals reached" if judged else "no goal was judged: measured with small numbers"
    console.print(told + (f", {failed} measurements failed" if failed else ""))


def _print(measured: Measured, console: Console) -> None:
    table = measured.table
    console.rule(f"[bold]{table.title}")
    rounds = len(measured.rounds)
    console.print(f"{table.note} Medians of {rounds} rounds; a ratio is the median of the rounds' ratios.")
    grid = Grid()
    for heading, right in (("what", False), ("figures", False), ("value", True), ("least to most", True)):
        grid.add_column(heading, justify="right" if right else "left")
    grid.add_column("goal", justify="right")
    grid.add_column("")
    for one in measured.outcomes():
        grid.add_row(*_row(measured, one))
    console.print(grid)
    console.print(_all_figures(measured))
    for what, why in measured.failures.items():
        console.print(f"[red]failed: {what}:[/] {why}", highlight=False)
    console.print()


def _row(measured: Measured, one: Outcome) -> list[str]:
    comparison = one.comparison
    figures: list[str] = []
    for measure, system in comparison.operands():
        values = values_of(measured.rounds, measure, system)
        shown = _number(median(values)) if values else "–"
        figures.append(f"{system} {shown}")
    units = measured.table.units.get(comparison.operands()[0][0], "")
    alone = len(comparison.operands()) == 1
    spread = f"{_number(min(one.values))} to {_number(max(one.values))}" if one.values else ""
    colour = _COLOURS.get(one.verdict, "default")
    return [
        comparison.label,
        f"{' : '.join(figures)} {units}",
        "–" if one.middle is None else _number(one.middle) if alone else f"{one.middle:.2f}",
        spread,
        str(comparison.bound or ""),
        f"[{colour}]{one.verdict}[/]",
    ]


def _all_figures(measured: Measured) -> Grid:
    """The medians, those of no row too; the longer side goes down."""
    measures = list(dict.fromkeys(measure for figures in measured.rounds for measure in figures))
    systems = [case.system for case in measured.table.cases]
    units = measured.table.units
    down, across = (systems, measures) if len(systems) >= len(measures) else (measures, systems)
    grid = Grid(title="all medians", show_edge=False, title_justify="left")
    grid.add_column("")
    for name in across:
        grid.add_column(f"{name}\n{units.get(name, '')}".rstrip(), justify="right")
    for name in down:
        cells: list[str] = []
        for other in across:
            measure, system = (other, name) if down is systems else (name, other)
            values = values_of(measured.rounds, measure, system)
            cells.append(_number(median(values)) if values else "")
        grid.add_row(name if down is systems else f"{name} {units.get(name, '')}", *cells)
    return grid


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_json(tables: Sequence[Measured], path: Path, *, rounds: int, quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(tables, rounds=rounds, quick=quick), indent=1) + "\n")


def as_json(tables: Sequence[Measured], *, rounds: int, quick: bool) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "quick": quick,
        "machine": {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "redis": subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True).stdout.strip(),
            "load": os.getloadavg()[0],
        },
        "peers": {name: list(versions) for name, versions in REQUIREMENTS.items()},
        "tables": {measured.table.name: _table_as_json(measured) for measured in tables},
    }


def _table_as_json(measured: Measured) -> dict[str, Any]:
    return {
        "title": measured.table.title,
        "units": dict(measured.table.units),
        "seconds": round(measured.seconds, 1),
        "rows": [
            {
                "label": one.comparison.label,
                "of": [list(operand) for operand in one.comparison.operands()],
                "value": one.middle,
                "rounds": one.values,
                "goal": None if one.comparison.bound is None else str(one.comparison.bound),
                "verdict": one.verdict,
            }
            for one in measured.outcomes()
        ],
        "rounds": measured.rounds,
        "failures": measured.failures,
    }
