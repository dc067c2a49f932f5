"""Partitions move between workers that come and go; the runs in them notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from producer.handle import RunHandle
from runtime_core.contracts.run import StopReason
from runtime_core.store.connection import connect
from runtime_core.store.leases import LeaseStore
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until


@pytest.fixture
async def leases(fleet: Fleet) -> AsyncIterator[LeaseStore]:
    redis = connect(fleet.redis_url)
    yield LeaseStore(redis)
    await redis.aclose()


async def shares(leases: LeaseStore) -> list[int]:
    """How many partitions each worker holds, in order."""
    view = await leases.observe(PARTITIONS)
    return sorted(Counter(lease.worker for lease in view.leases if lease.owner).values())


async def owner_of(leases: LeaseStore, handle: RunHandle) -> str:
    partition = (await handle.get()).partition
    return (await leases.observe(PARTITIONS)).leases[partition].worker


async def test_a_worker_that_joins_gets_its_share_and_no_run_is_cut(fleet: Fleet, leases: LeaseStore) -> None:
    await fleet.start(1)
    await fleet.ready()
    handles = [await fleet.client.submit(request("wait 0.5", session=f"s{number}")) for number in range(40)]
    await fleet.start(1)

    async def balanced() -> bool:
        return await shares(leases) == [PARTITIONS // 2, PARTITIONS // 2]

    await wait_until(balanced, "each of both has its half", seconds=30)
    results = await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
    assert {(result.stop_reason, result.metadata["attempt"]) for result in results} == {(StopReason.COMPLETED, 1)}
    later = [await fleet.client.submit(request("echo", session=f"s{number}")) for number in range(40)]
    workers = {(await handle.result(timeout=10)).metadata["worker"] for handle in later}
    assert len(workers) == 2


async def test_a_partition_with_a_long_run_stays_and_another_one_moves(fleet: Fleet, leases: LeaseStore) -> None:
    await fleet.start(1, RUNLANE_HANDOVER_GRACE_S="0.5")
    await fleet.ready()
    long = await fleet.client.submit(request("wait 10"))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")
    holder = await owner_of(leases, long)
    await fleet.start(1)

    async def balanced() -> bool:
        return await shares(leases) == [PARTITIONS // 2, PARTITIONS // 2]

    await wait_until(balanced, "each of both has its half", seconds=30)
    assert await owner_of(leases, long) == holder
    result = await long.result(timeout=30)
    assert (result.stop_reason, result.metadata["attempt"]) == (StopReason.COMPLETED, 1)


async def test_a_worker_that_leaves_hands_its_partitions_to_those_that_stay(fleet: Fleet, leases: LeaseStore) -> None:
    first, *_ = await fleet.start(2, RUNLANE_EXPECT_WORKERS="2")
    await fleet.ready()
    assert await shares(leases) == [PARTITIONS // 2, PARTITIONS // 2]

    os.kill(first.pid, signal.SIGTERM)
    await wait_until(lambda: first.exit_code is not None, "the worker has ended")

    async def all_at_one() -> bool:
        return await shares(leases) == [PARTITIONS]

    await wait_until(all_at_one, "the other one has them all, not only when they lapse", seconds=4)
