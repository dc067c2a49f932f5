"""Scenarios that are their schedule: steady load under recurring faults."""

from __future__ import annotations

from tests.chaos.arena import Arena
from tests.chaos.faults import SCHEDULES
from tests.chaos.figures import Figures
from tests.chaos.history import History
from tests.chaos.load import plan
from tests.chaos.report import Measured, recovery
from tests.chaos.scenarios.frame import Measure, Options, Outcome, Scenario, adjusted, judge


def scheduled(name: str, measured: Measure) -> Scenario:
    async def scenario(options: Options) -> Outcome:
        schedule = adjusted(SCHEDULES[name], options)
        async with Arena(
            options.folder, partitions=schedule.partitions, seed=options.seed, console=options.console
        ) as arena:
            await arena.start(schedule.workers)
            runs = plan(arena.rng, sessions=schedule.sessions, seconds=schedule.seconds, durable=0.25)

            def more(count: int) -> bool:
                return count < schedule.runs or arena.injector.hits < schedule.hits

            await arena.under(schedule.faults, arena.load.submit_at(schedule.rate, runs, more))
            return await judge(name, options, arena, measured)

    return scenario


def mixed(_: History, figures: Figures) -> list[Measured]:
    return [*recovery(figures), innocents(figures)]


def kills(_: History, figures: Figures) -> list[Measured]:
    hits = Measured(name="kills that hit", value=figures.hits, at_least=SCHEDULES["kills"].hits)
    return [hits, *recovery(figures, p50_s=7.0, max_s=10.0), innocents(figures)]


def outages(_: History, figures: Figures) -> list[Measured]:
    return [Measured(name="runs with a crash counted", value=len(figures.crashed), at_most=0), innocents(figures)]


def innocents(figures: Figures) -> Measured:
    return Measured(name="innocents given up on", value=len(figures.dead_letters), at_most=0)
