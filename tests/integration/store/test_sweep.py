"""Sweeps: doorbells that were lost, runs that are marked as running and are not."""

from __future__ import annotations

import asyncio
import json

from redis.asyncio import Redis

from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.connection import connect_sync
from runtime_core.store.leases import LeaseStore, Renewed, Swept, renew
from tests.integration.store.conftest import PARTITION, Store

R1 = ScopedRunId("r1")
#: As in _prelude.lua.
RINGS_AT_ONCE = 500


async def test_sweep_rings_a_head_whose_doorbell_was_lost(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.redis.delete(keys.queue(PARTITION))

    await store.sweep(lease, in_hand=0)
    assert await store.bells() == []  # not overdue yet
    await store.overdue()
    await store.sweep(lease, in_hand=1)
    assert await store.bells() == []  # it may be the one in the worker's hands
    await store.sweep(lease, in_hand=0)
    assert await store.bells() == ["r1"]
    await store.overdue()
    await store.sweep(lease, in_hand=0)
    assert await store.bells() == ["r1"]  # it waits in the list


async def test_every_ring_of_a_doorbell_has_a_delivery_tag_of_its_own(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.leases.release(lease)
    first = await store.redis.lindex(keys.queue(PARTITION), 0)
    await store.own("w2")
    second = await store.redis.lindex(keys.queue(PARTITION), 0)

    tags = [json.loads(text or "")["properties"]["delivery_tag"] for text in (first, second)]
    assert tags == ["r1:1", "r1:2"]


async def test_sweep_tells_what_runs_and_repair_requeues_one_by_attempt(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")

    assert await store.sweep(lease, in_hand=0) == Swept(running=[(R1, 1)], cascades=[])
    assert await store.attempts.repair(lease, R1, 7) is False
    assert await store.attempts.repair(lease, R1, 1) is True
    assert (await store.runs.get(R1)).interruptions == 1
    assert await store.bells() == ["r1", "r1"]


async def test_a_partition_with_broken_keys_does_not_keep_the_others_from_their_answers(
    redis: Redis, redis_url: str
) -> None:
    leases = LeaseStore(redis)
    held = [await leases.acquire(partition, "w1#x") for partition in range(2)]
    broken, sound = (lease for lease in held if lease is not None)
    for name in ("live", "cancels"):
        await redis.set(f"rl:{{p0000}}:{name}", "not what it should be")

    swept = await leases.sweep({broken: 0, sound: 0})
    client = connect_sync(redis_url)
    renewed = await asyncio.to_thread(renew, client, [broken, sound])
    client.close()

    assert (swept[1], renewed[1]) == (Swept(running=[], cascades=[]), Renewed(cancels=[], woken=[]))
    for error in (swept[0], renewed[0]):
        assert isinstance(error, RunlaneError)
        assert "partition 0 failed" in str(error)
        assert "WRONGTYPE" in str(error)
