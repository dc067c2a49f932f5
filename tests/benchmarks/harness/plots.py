"""One picture for each table that has a chart: bars of medians, with the range of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.harness.figures import values_of
from tests.benchmarks.harness.table import Measured

_OURS, _THEIRS = "#1b6ca8", "#b9c4cc"
_OUR_NAME = "Runlane"


def write_plots(tables: Sequence[Measured], folder: Path) -> list[Path]:
    """Into ``folder``; raises ImportError without the extra ``bench``."""
    import matplotlib  # pyright: ignore[reportMissingImports]

    matplotlib.use("Agg")
    return [path for measured in tables if (path := _write(measured, folder)) is not None]


def _write(measured: Measured, folder: Path) -> Path | None:
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    chart = measured.table.chart
    if chart is None:
        return None
    bars = {
        measure: [
            (system, values) for system in chart.systems if (values := values_of(measured.rounds, measure, system))
        ]
        for measure in chart.measures
    }
    bars = {measure: found for measure, found in bars.items() if found}
    if not bars:
        return None
    height = 1.2 + 0.32 * sum(len(found) + 1 for found in bars.values())
    figure, axes = pyplot.subplots(len(bars), 1, figsize=(8, height), squeeze=False, layout="constrained")
    for (axis,), (measure, found) in zip(axes, bars.items(), strict=True):
        _draw(axis, found, f"{measure}, {measured.table.units.get(measure, '')}")
    figure.suptitle(measured.table.title, fontsize=10)
    path = folder / f"{measured.table.name}.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _draw(axis: Any, found: Sequence[tuple[str, list[float]]], label: str) -> None:
    names = [system for system, _ in found]
    middles = [median(values) for _, values in found]
    below = [middle - min(values) for middle, (_, values) in zip(middles, found, strict=True)]
    above = [max(values) - middle for middle, (_, values) in zip(middles, found, strict=True)]
    ours = [name.startswith(_OUR_NAME) for name in names]
    # Where nobody is named all are ours.
    colours = [_OURS if own or not any(ours) else _THEIRS for own in ours]
    axis.barh(names, middles, xerr=[below, above], color=colours, capsize=2)
    axis.invert_yaxis()
    axis.set_xlabel(label, fontsize=8)
    axis.tick_params(labelsize=8)
    for spine in ("top", "right"):
        axis.spines[spine].set_visible(False)
