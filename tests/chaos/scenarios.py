"""What each name on the command line does, and the limits that its figures have to keep."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tests.chaos.arena import Arena
from tests.chaos.checker import Violation, check
from tests.chaos.faults import SCHEDULES, Schedule
from tests.chaos.figures import Figures, measure
from tests.chaos.history import History
from tests.chaos.load import plan
from tests.chaos.report import Measured, recovery, show, tell


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


async def judge(name: str, options: Options, arena: Arena, measured: Measure) -> Outcome:
    """Bring an arena to its end and judge what happened there."""
    history = await arena.history()
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


def scheduled(name: str, measured: Measure) -> Scenario:
    """A scenario that is its schedule: steady load under recurring faults."""

    async def scenario(options: Options) -> Outcome:
        schedule = adjusted(SCHEDULES[name], options)
        async with Arena(
            options.folder, partitions=schedule.partitions, seed=options.seed, console=options.console
        ) as arena:
            await arena.start(schedule.workers)
            runs = plan(arena.rng, sessions=schedule.sessions, seconds=schedule.seconds)

            def more(count: int) -> bool:
                return count < schedule.runs or arena.injector.hits < schedule.hits

            await arena.under(schedule.faults, arena.load.submit_at(schedule.rate, runs, more))
            return await judge(name, options, arena, measured)

    return scenario


def adjusted(schedule: Schedule, options: Options) -> Schedule:
    return replace(schedule, runs=options.runs or schedule.runs, workers=options.workers or schedule.workers)


def _mixed(_: History, figures: Figures) -> list[Measured]:
    return [*recovery(figures), _innocents(figures)]


def _kills(_: History, figures: Figures) -> list[Measured]:
    hits = Measured(name="kills that hit", value=figures.hits, at_least=SCHEDULES["kills"].hits)
    return [hits, *recovery(figures, p50_s=7.0, max_s=10.0), _innocents(figures)]


def _outages(_: History, figures: Figures) -> list[Measured]:
    return [Measured(name="runs with a crash counted", value=len(figures.crashed), at_most=0), _innocents(figures)]


def _innocents(figures: Figures) -> Measured:
    return Measured(name="innocents given up on", value=len(figures.dead_letters), at_most=0)


SCENARIOS: dict[str, Scenario] = {
    "mix": scheduled("mix", _mixed),
    "short": scheduled("short", _mixed),
    "kills": scheduled("kills", _kills),
    "stops": scheduled("stops", _mixed),
    "outages": scheduled("outages", _outages),
}
