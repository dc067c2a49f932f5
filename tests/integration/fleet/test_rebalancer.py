"""Moving partitions to a member that lacks them, on a real store; the other member is a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from runtime_core.ids import ScopedRunId
from runtime_core.store.leases import LeaseStore
from tests.integration.fleet.conftest import Kept, KeptBy, wait_until
from workers.execution.attempts import Attempt

JOINED = "w2"


@pytest.fixture
def leases(redis: Redis) -> LeaseStore:
    return LeaseStore(redis)


@asynccontextmanager
async def another_member(leases: LeaseStore) -> AsyncGenerator[None]:
    """A worker that beats and takes nothing. It leaves in order."""

    async def beat() -> None:
        while True:
            await leases.heartbeat(JOINED, {}, accepting=True)
            await asyncio.sleep(0.2)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait({beating})
        await leases.leave(JOINED)


async def holding_both(kept: Kept) -> None:
    await wait_until(lambda: set(kept.keeper.held) == {0, 1}, "both partitions are held", seconds=5)


def execute_in(kept: Kept, partition: int) -> Attempt:
    attempt = Attempt(ScopedRunId(f"r{partition}"), kept.keeper.held[partition])
    kept.table.enter(attempt)
    return attempt


async def test_the_quiet_partition_moves_and_is_kept_for_the_member_that_lacks_it(
    leases: LeaseStore, kept_by: KeptBy
) -> None:
    async with kept_by(leases) as kept:
        await holding_both(kept)
        execute_in(kept, 0)
        async with another_member(leases):
            await wait_until(lambda: set(kept.keeper.held) == {0}, "partition 1 has moved", seconds=5)
            view = (await leases.observe(2)).leases[1]
        assert (view.owner, view.reserved_for) == ("", JOINED)
        assert kept.queues.joined == {0}


async def test_partitions_that_are_quiet_move_at_once_and_none_is_frozen_in_vain(
    leases: LeaseStore, kept_by: KeptBy
) -> None:
    async with kept_by(leases, partitions=8) as kept:
        await wait_until(lambda: len(kept.keeper.held) == 8, "all partitions are held", seconds=5)
        async with another_member(leases):
            await wait_until(lambda: len(kept.keeper.held) == 4, "half of them have moved", seconds=5)
        assert sorted(kept.queues.joins) == list(range(8)), "no partition was joined a second time"


async def test_what_is_not_quiet_within_the_grace_goes_on_here(leases: LeaseStore, kept_by: KeptBy) -> None:
    async with kept_by(leases, grace=0.3) as kept:
        await holding_both(kept)
        attempts = [execute_in(kept, 0), execute_in(kept, 1)]
        async with another_member(leases):
            await wait_until(lambda: len(kept.queues.joined) == 1, "one partition is frozen", seconds=5)
            await wait_until(lambda: len(kept.queues.joined) == 2, "it is thawed", seconds=5)
            assert all(ownership.admits for ownership in kept.keeper.held.values())
            assert [attempt.cause for attempt in attempts] == [None, None]
            await wait_until(lambda: len(kept.queues.joined) == 1, "the other one is tried", seconds=5)


async def test_a_partition_frozen_for_a_member_that_leaves_again_is_thawed(leases: LeaseStore, kept_by: KeptBy) -> None:
    async with kept_by(leases, grace=60) as kept:
        await holding_both(kept)
        execute_in(kept, 0)
        execute_in(kept, 1)
        async with another_member(leases):
            await wait_until(lambda: len(kept.queues.joined) == 1, "one partition is frozen", seconds=5)
        await wait_until(lambda: kept.queues.joined == {0, 1}, "it is thawed", seconds=5)
        assert set(kept.keeper.held) == {0, 1}


async def test_a_drain_takes_over_what_was_about_to_move(leases: LeaseStore, kept_by: KeptBy) -> None:
    async with kept_by(leases, grace=60) as kept:
        await holding_both(kept)
        attempts = [execute_in(kept, 0), execute_in(kept, 1)]
        async with another_member(leases):
            await wait_until(lambda: len(kept.queues.joined) == 1, "one partition is frozen", seconds=5)
            draining = asyncio.create_task(kept.drain.run(grace=60))
            await wait_until(lambda: not kept.queues.joined, "both are frozen", seconds=5)
            for attempt in attempts:
                kept.table.leave(attempt)
            await draining
            view = await leases.observe(2)
        assert [(lease.owner, lease.reserved_for) for lease in view.leases] == [("", JOINED), ("", JOINED)]
        assert view.members == {JOINED}
