"""Runs that kill their worker: they become dead letters, and nobody else does."""

from __future__ import annotations

import asyncio

from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, fleet
from tests.simulator.history import History
from tests.simulator.network import Directive


@directed(seed=2)  # with some seeds the innocents die only of crashes that are theirs as far as anybody can tell
async def poison_among_innocents(history: History) -> None:
    """One poison run and six innocents on the same partition: five deaths at most, innocents complete."""
    history.slots = 8
    await fleet(history)
    supervisor = asyncio.create_task(history.supervise())
    poison = await history.submit("1 100 poison", "s0")
    for number in range(1, 7):
        await history.submit("6 500", f"s{number}")
    await history.until(lambda: history.finished(poison), "the poison run is given up on", 90.0)
    await settle(history)
    supervisor.cancel()
    attempts = history.oracle.runs[poison or ""].attempt
    history.oracle.expect(attempts <= 5, f"the poison run killed {attempts} workers, 5 are enough to know it")
    told = {run: await history.told(run) for run in history.oracle.runs if run != poison}
    history.oracle.expect(any("spared" in counts for counts in told.values()), f"nobody was spared: {told}")
    for run, counts in told.items():
        history.oracle.expect(counts.count("crashes") <= 4, f"{run} is innocent, and counts {counts}")


@directed()
async def two_poison_runs_are_told_apart(history: History) -> None:
    """They start together with innocents: both become dead letters, nobody else."""
    history.slots = 8
    await fleet(history)
    supervisor = asyncio.create_task(history.supervise())
    poison = [await history.submit("1 100 poison", f"s{number}") for number in (0, 1)]
    for number in range(2, 7):
        await history.submit("4 300", f"s{number}")
    await history.until(lambda: history.finished(*poison), "the poison runs are given up on", 180.0)
    await settle(history)
    supervisor.cancel()


@directed(partitions=2)
async def poison_on_another_partition_spares(history: History) -> None:
    """A run in probation on one partition of a worker, innocents on its other one: they are spared."""
    history.slots = 8
    await fleet(history)
    supervisor = asyncio.create_task(history.supervise())
    poison = await history.submit("1 100 poison", history.session_in(0))
    for number in range(3):
        await history.submit("10 3000", f"{history.session_in(1)}-{number}")
    await history.until(lambda: history.finished(poison), "the poison run is given up on", 90.0)
    await settle(history)
    supervisor.cancel()


@directed()
async def poison_behind_a_long_innocent_run(history: History) -> None:
    """The innocent run was there first and takes longer than its seconds alone: it is not given up on, too."""
    history.slots = 8
    await fleet(history)
    supervisor = asyncio.create_task(history.supervise())
    await history.submit("8 2000", "innocent")
    poison = await history.submit("1 100 poison", "poison")
    late = Directive(
        matches=lambda script: script.name == "admit" and script.own[2] == poison,
        act="delay_request",
        seconds=0.3,
        left=1000,
    )
    history.network.directives.append(late)
    await history.until(lambda: history.finished(poison), "the poison run is given up on", 180.0)
    await settle(history)
    supervisor.cancel()
