"""Cancels of queued and of running runs, with pub/sub and without: it only hurries them along."""

from __future__ import annotations

import asyncio

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import StopReason
from tests.chaos.arena import Arena, wait_until
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures, p50
from tests.chaos.history import Applied, Cancelled, FaultKind, History
from tests.chaos.load import Planned
from tests.chaos.report import Measured
from tests.chaos.scenarios.frame import Options, Outcome, adjusted, judge

#: Half of the runs are cancelled with pub/sub, half without; of either, half while they run.
_LOAD = Schedule(runs=1_000)
#: Pairs of cancels a second.
_RATE = 25.0
#: Seconds for all runs of a phase to start.
_START_WITHIN_S = 60.0


async def cancels(options: Options) -> Outcome:
    load = adjusted(_LOAD, options)
    async with Arena(options.folder, partitions=load.partitions, seed=options.seed, console=options.console) as arena:
        await arena.start(load.workers)
        await _phase(arena, "heard", load.runs // 4)
        for worker in arena.fleet.living:
            worker.proxy.muted = True
            muted = Applied(kind=FaultKind.PUBSUB_MUTED, at=boot_seconds(), pid=worker.pid, worker=worker.name)
            arena.injector.applied.append(muted)
        await _phase(arena, "muted", load.runs // 4)
        return await judge("cancels", options, arena, _measured)


async def _phase(arena: Arena, name: str, sessions: int) -> None:
    """Each session has one run that executes and one that waits behind it; both are cancelled, the latter first."""
    started = arena.tail.started() + sessions
    for session in range(sessions):
        for place in ("running", "queued"):
            await arena.load.submit(
                Planned(
                    run=f"{name}-{place}-{session}",
                    session=f"{name}-{session}",
                    text="idle 120",
                    ends_as=StopReason.CANCELLED,
                )
            )
    await wait_until(lambda: arena.tail.started() >= started, "one run of each session executes", _START_WITHIN_S)
    async with asyncio.TaskGroup() as group:
        for session in range(sessions):
            group.create_task(_cancel_both(arena, name, session))
            await asyncio.sleep(1 / _RATE)
    await arena.load.ended(within=20.0)


async def _cancel_both(arena: Arena, name: str, session: int) -> None:
    for place in ("queued", "running"):
        run, at = f"{name}-{place}-{session}", boot_seconds()
        outcome = await arena.client.cancel(run)
        arena.cancels.append(Cancelled(run=run, at=at, answered=boot_seconds(), outcome=outcome))


def _measured(history: History, figures: Figures) -> list[Measured]:
    started = {line.run for line in history.journal}
    queued_starts = sum("-queued-" in run for run in started)
    heard, muted = _latencies(history, "heard"), _latencies(history, "muted")
    return [
        Measured(name="cancels", value=len(history.cancels)),
        Measured(name="queued runs that started", value=queued_starts, at_most=0),
        Measured(name="running, with pub/sub: p50", value=p50(heard), at_most=1.0, unit=" s"),
        Measured(name="running, with pub/sub: max", value=max(heard, default=0.0), at_most=1.0, unit=" s"),
        Measured(name="running, without pub/sub: p50", value=p50(muted), at_most=1.0, unit=" s"),
        Measured(name="running, without pub/sub: max", value=max(muted, default=0.0), at_most=2.0, unit=" s"),
    ]


def _latencies(history: History, name: str) -> list[float]:
    """Seconds from the call to the end of the run in its record."""
    return [
        finished / 1000 + history.boot_offset - cancel.at
        for cancel in history.cancels
        if cancel.run.startswith(f"{name}-running-")
        and cancel.run in history.records
        and (finished := history.records[cancel.run].finished_ms) is not None
    ]
