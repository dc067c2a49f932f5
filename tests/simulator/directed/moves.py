"""Partitions that move between living workers: nothing is cut, nothing counts."""

from __future__ import annotations

import asyncio

from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, executing, finishes, fleet, owner, strike
from tests.simulator.history import History


async def _load(history: History, seconds: float, *, work: str = "2 250", sessions: int = 12) -> None:
    """Runs without a pause, so many that something of each partition always executes."""
    end = history.now + seconds
    number = 0
    while history.now < end:
        number += 1
        await history.submit(work, f"s{number % sessions}")
        await asyncio.sleep(0.04)


@directed(partitions=2)
async def joining_worker_gets_its_share(history: History) -> None:
    """Under load a second worker joins: balanced within 6 s, and no run starts twice."""
    history.slots = 16
    await fleet(history)
    load = asyncio.create_task(_load(history, 12.0))
    await asyncio.sleep(2.0)
    history.worker()
    await history.until(history.balanced, "balanced", 7.0)
    await load
    await finishes(history, seconds=15.0)
    _nothing_cut(history)
    await settle(history)


@directed(partitions=2)
async def busy_partition_is_not_cut(history: History) -> None:
    """What is to move executes longer than the grace: it stays, and what ends in time moves quietly."""
    history.settings["handover_grace_s"] = 2.0
    await fleet(history)
    runs = [await history.submit("1 15000", history.session_in(partition)) for partition in (0, 1)]
    for run in runs:
        await executing(history, run)
    history.worker()
    await asyncio.sleep(10.0)
    await finishes(history, *runs)
    _nothing_cut(history)
    history.balance_within = 45.0  # one that did not become quiet is left alone for 30 s
    await settle(history)


@directed(partitions=2)
async def short_runs_end_before_their_partition_moves(history: History) -> None:
    history.settings["handover_grace_s"] = 3.0
    await fleet(history)
    runs = [await history.submit("1 6000", history.session_in(partition)) for partition in (0, 1)]
    for run in runs:
        await executing(history, run)
    await asyncio.sleep(1.2)
    history.worker()
    await finishes(history, *runs)
    await history.until(history.balanced, "balanced", 12.0)
    _nothing_cut(history)
    await settle(history)


@directed(partitions=2)
async def rolling_restart_restarts_no_run(history: History) -> None:
    """Each worker is told to stop and replaced, under a load of short runs: every run takes one attempt."""
    history.slots = 16
    first, second = await fleet(history, 2)
    load = asyncio.create_task(_load(history, 12.0))
    for worker in (first, second):
        history.drain(worker, 4.0)
        history.worker()
        await history.until(lambda worker=worker: worker.drained, "drained", 8.0)
        await history.until(history.balanced, f"balanced: {history.shares()}", 8.0)
    await load
    await finishes(history, seconds=15.0)
    _nothing_cut(history)
    await settle(history)


@directed(partitions=2)
async def drained_worker_is_replaced_at_once(history: History) -> None:
    """It releases for the one that stays, and takes nothing back."""
    await fleet(history, 2)
    leaving = owner(history)
    history.drain(leaving, 4.0)
    await history.until(lambda: leaving.drained, "drained", 6.0)
    await history.until(history.balanced, f"balanced: {history.shares()}", 1.5)
    await settle(history)


@directed(partitions=4)
async def draining_worker_only_shrinks(history: History) -> None:
    """It waits for a long run, while others own what it gave up: it takes nothing any more."""
    await fleet(history, 2)
    leaving = owner(history)
    run = await history.submit("1 8000", history.session_in(0))
    await executing(history, run)
    history.drain(leaving, 12.0)
    await asyncio.sleep(1.0)
    share = history.shares()[leaving.name]
    while not history.finished(run):
        await asyncio.sleep(0.1)
        now = history.shares().get(leaving.name, 0)
        history.oracle.expect(now <= share, f"{leaving.name} drains and owns {now} partitions, it had {share}")
        share = now
    await settle(history)


@directed()
async def drain_hands_over_what_does_not_end(history: History) -> None:
    """At the end of the grace the run goes to another worker; it counts a handover, and completes there."""
    (first,) = await fleet(history)
    history.worker()
    run = await history.submit("40 300")
    await executing(history, run)
    await asyncio.sleep(2.5)
    history.drain(first, 0.5)
    await finishes(history, run, seconds=30.0)
    told = await history.told(run or "")
    history.oracle.expect(told == ["handovers"], f"{run} counts {told}")
    await settle(history)


@directed()
async def doorbell_during_a_freeze(history: History) -> None:
    """The hub's thread stands still between its look at the lease and the table, while the drain freezes and looks."""
    (first,) = await fleet(history)
    history.worker()
    await asyncio.sleep(2.5)
    strike(history, "release", "delay_request", seconds=1.0)
    first.pause_before_entering = 0.25
    run = await history.submit("10 200")
    await asyncio.sleep(0.1)
    history.drain(first, 3.0)
    await finishes(history, run)
    await settle(history)


@directed(partitions=4)
async def fleet_that_starts_together_divides_once(history: History) -> None:
    """Three workers within a second: nobody gives back what it took."""
    for _ in range(3):
        history.worker()
        await asyncio.sleep(0.4)
    await history.until(history.balanced, f"balanced: {history.shares()}", 6.0)
    await asyncio.sleep(4.0)
    released = history.oracle.counts["release OK"]
    history.oracle.expect(released == 0, f"{released} partitions were given back by a fleet that started together")
    await settle(history)


def _nothing_cut(history: History) -> None:
    for run in history.oracle.runs.values():
        history.oracle.expect(run.attempt == 1, f"a move between living workers cost {run.id} an attempt: {run}")
