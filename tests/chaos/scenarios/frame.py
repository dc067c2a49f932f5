"""What a scenario is: from options to an outcome, with the limits that its figures have to keep."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tests.chaos.arena import Arena
from tests.chaos.checker import Violation, check
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures, measure
from tests.chaos.history import History
from tests.chaos.report import Measured, show, tell


@dataclass(frozen=True, kw_only=True)
class Options:
    """``runs`` and ``workers`` replace those of the schedule. Everything is left in ``folder``."""

    folder: Path
    console: Console
    seed: int = 1
    runs: int | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    name: str
    history: History
    violations: Sequence[Violation]
    figures: Figures
    measured: Sequence[Measured]

    @property
    def good(self) -> bool:
        return not self.violations and all(one.holds for one in self.measured)

    def print(self, console: Console) -> None:
        tell(console, self.history, self.violations)
        show(console, self.name, self.figures, self.violations, self.measured)


Measure = Callable[[History, Figures], list[Measured]]
Scenario = Callable[[Options], Coroutine[None, None, Outcome]]


async def judge(
    name: str, options: Options, arena: Arena, measured: Measure, *, history: History | None = None
) -> Outcome:
    """Bring an arena to its end and judge what happened there."""
    if history is None:
        await arena.settle()
        history = await arena.collect()
    (options.folder / "history.json").write_text(history.model_dump_json())
    figures = measure(history)
    stopped = Measured(name="workers that did not stop", value=len(arena.not_stopped), at_most=0)
    return Outcome(
        name=f"{name}, seed {options.seed}",
        history=history,
        violations=check(history),
        figures=figures,
        measured=[*measured(history, figures), stopped],
    )


def adjusted(schedule: Schedule, options: Options) -> Schedule:
    return replace(schedule, runs=options.runs or schedule.runs, workers=options.workers or schedule.workers)
