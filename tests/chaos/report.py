"""What a chaos run prints: one table of figures and violations, and the whole story of each run that was wronged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.checker import Violation, ViolationKind
from tests.chaos.figures import Figures, p50
from tests.chaos.history import History

#: Stories printed in full; a broken guard can wrong every run.
_STORIES = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure of a scenario, and what it may be: at most, at least, or whatever."""

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        return not (
            (self.at_most is not None and self.value > self.at_most)
            or (self.at_least is not None and self.value < self.at_least)
        )

    @property
    def limit(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}{self.unit}"
        return f"≥ {self.at_least:g}{self.unit}" if self.at_least is not None else ""

    @property
    def shown(self) -> str:
        return f"{self.value:.2f}{self.unit}" if self.value % 1 else f"{self.value:.0f}{self.unit}"


def recovery(figures: Figures, *, p50_s: float | None = None, max_s: float | None = None) -> list[Measured]:
    """How long runs that a SIGKILL met were interrupted."""
    return [
        Measured(name="recovery p50", value=p50(figures.recoveries), at_most=p50_s, unit=" s"),
        Measured(name="recovery max", value=max(figures.recoveries, default=0.0), at_most=max_s, unit=" s"),
    ]


def show(
    console: Console, title: str, figures: Figures, violations: Sequence[Violation], measured: Sequence[Measured]
) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("")
    table.add_row("runs", str(figures.runs))
    for kind, times in sorted(figures.faults.items()):
        table.add_row(f"fault: {kind}", str(times))
    table.add_row("kills that hit an executing run", str(figures.hits))
    found = Counter(violation.kind for violation in violations)
    for kind in ViolationKind:
        table.add_row(kind, str(found[kind]), "0", _verdict(not found[kind]))
    for one in measured:
        table.add_row(one.name, one.shown, one.limit, _verdict(one.holds) if one.limit else "")
    table.add_row("repeated executions (side effects)", str(figures.repeated))
    table.add_row("effects past their guard", str(figures.late_effects))
    table.add_row("dead letters", str(len(figures.dead_letters)))
    table.add_row("runs with a crash counted", str(len(figures.crashed)))
    table.add_row("warm starts", "" if figures.warm is None else f"{figures.warm:.0%}")
    table.add_row("workers that fell by themselves", str(len(figures.fallen)))
    console.print(table)


def tell(console: Console, history: History, violations: Sequence[Violation]) -> None:
    """The stories of the runs that were wronged."""
    for violation in violations:
        console.print(escape(f"{violation.kind}: run {violation.run}: {violation.text}"), highlight=False)
    for run in list(dict.fromkeys(violation.run for violation in violations))[:_STORIES]:
        console.print(escape("\n".join(story(history, run))), highlight=False)


def story(history: History, run: str) -> Iterator[str]:
    """Everything that the history knows of one run, in order of time."""
    yield f"── run {run}"
    submitted = next((one for one in history.submitted if one.run == run), None)
    events: list[tuple[float, str]] = []
    if submitted is not None:
        partition = submitted.partition(history.partitions)
        events.append((submitted.at, f"submitted to session {submitted.session}, partition {partition}"))
        events += [
            (seen.at, f"partition {partition} of {seen.worker or 'nobody'}, fence {seen.fence}")
            for seen in history.owners
            if seen.partition == partition
        ]
    lines = [line for line in history.journal if submitted is not None and line.session == submitted.session]
    events += [(line.at, f"run {line.run} attempt {line.attempt} in {line.pid}: {line.what}") for line in lines]
    pids = {line.pid for line in lines}
    events += [
        (fault.at, f"{fault.kind} of {fault.worker or 'Redis'} {fault.pid or ''}" + _until(fault.until))
        for fault in history.faults
        if fault.pid in pids or fault.pid is None
    ]
    events += [
        (one.at, f"process {one.pid} ({one.worker}) ended: {one.code}") for one in history.exits if one.pid in pids
    ]
    own = [at for at, text in events if f"run {run} " in text or text.startswith("submitted")]
    begin, end = min(own, default=0.0) - 1, max(own, default=0.0) + 10
    yield from (f"  {at:.3f}  {text}" for at, text in sorted(events) if begin <= at <= end)
    for name, chunks in (("stream", history.streams.get(run)), ("read again", history.rereads.get(run))):
        told = ", ".join(f"{chunk.sequence}:{chunk.kind}@{chunk.attempt}" for chunk in chunks or [])
        yield f"  {name}: {told or 'nothing'}"
    record = history.records.get(run)
    yield f"  record: {record.model_dump_json(exclude_none=True) if record else 'none'}"


def _until(until: float | None) -> str:
    return "" if until is None else f" until {until:.3f}"


def _verdict(holds: bool) -> str:
    return "[green]ok[/]" if holds else "[bold red]NO[/]"
