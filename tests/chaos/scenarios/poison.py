"""A few runs that kill their process, among many that do not: the guilty are given up on, and nobody else."""

from __future__ import annotations

from itertools import islice

from runtime_core.contracts.run import StopReason
from tests.chaos.arena import Arena
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures
from tests.chaos.history import History
from tests.chaos.load import Planned, plan
from tests.chaos.report import Measured
from tests.chaos.scenarios.frame import Options, Outcome, adjusted, judge

_LOAD = Schedule(runs=200, rate=10.0)
_POISON = 3
#: Seconds: two crashes, then three in probation, each a takeover; those that are charged wait for each other.
_SETTLE_S = 240.0


async def poison(options: Options) -> Outcome:
    load = adjusted(_LOAD, options)
    async with Arena(options.folder, partitions=load.partitions, seed=options.seed, console=options.console) as arena:
        await arena.start(load.workers)
        runs = list(islice(plan(arena.rng, sessions=load.sessions, seconds=load.seconds), load.runs))
        for number in range(_POISON):  # early, so that many innocents meet them, some in the same session
            guilty = Planned(
                run=f"poison{number}",
                session=runs[-1 - number].session,
                text="poison",
                ends_as=StopReason.DEAD_LETTER,
            )
            runs.insert((number + 1) * load.runs // 20, guilty)
        await arena.load.submit_at(load.rate, iter(runs), lambda count: count < len(runs))
        await arena.settle(_SETTLE_S)
        return await judge("poison", options, arena, _measured, history=await arena.collect())


def _measured(history: History, figures: Figures) -> list[Measured]:
    guilty = [one for one in history.submitted if one.ends_as is StopReason.DEAD_LETTER]
    ends = [history.records[one.run].finished_ms or 0 for one in guilty if one.run in history.records]
    innocents = [run for run in figures.dead_letters if run not in {one.run for one in guilty}]
    took = max(ends, default=0) / 1000 + history.boot_offset - min(one.at for one in guilty)
    return [
        Measured(name="dead letters", value=len(figures.dead_letters), at_least=_POISON, at_most=_POISON),
        Measured(name="innocents given up on", value=len(innocents), at_most=0),
        Measured(name="processes that died of poison", value=len(figures.fallen)),
        Measured(name="until the last was given up on", value=took, unit=" s"),
    ]
