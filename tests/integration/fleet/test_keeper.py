"""The keeper of partitions, on a real store whose replies get lost or come late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime_core.clock import boot_seconds
from runtime_core.store import keys
from runtime_core.store.leases import Lease, LeaseStore
from runtime_core.store.timing import WORKER_TTL_MS
from tests.integration.fleet.conftest import KeptBy, wait_until

#: Seconds without a heartbeat after which the fleet's pulse starts anew, as in _clock.lua.
PULSE_GAP = 2.0

#: Partitions of a store in which all but one are broken.
PARTITIONS, SOUND = 8, 5
BROKEN_FIELD = ("HSET", keys.lease(0), "expires", "soon")
BROKEN_TYPE = ("SET", keys.lease(0), "not what it should be")


class LossyLeases(LeaseStore):
    """The reply of the first acquisition is lost."""

    lost = False

    async def acquire(self, partition: int, owner: str) -> Lease | None:
        lease = await super().acquire(partition, owner)
        if not self.lost:
            self.lost = True
            raise RedisConnectionError("the reply was lost")
        return lease


class SlowLeases(LeaseStore):
    """An acquisition reaches Redis at once; its reply comes when the test says so."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def acquire(self, partition: int, owner: str) -> Lease | None:
        lease = await super().acquire(partition, owner)
        self.asked.set()
        await self.answer.wait()
        return lease


class DistantLeases(LeaseStore):
    """Redis is far away: an acquisition takes its time."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.beats: list[float] = []

    async def heartbeat(
        self, worker: str, info: Mapping[str, str], *, accepting: bool, ttl_ms: int = WORKER_TTL_MS
    ) -> None:
        self.beats.append(boot_seconds())
        await super().heartbeat(worker, info, accepting=accepting, ttl_ms=ttl_ms)

    async def acquire(self, partition: int, owner: str) -> Lease | None:
        await asyncio.sleep(0.2)
        return await super().acquire(partition, owner)


async def test_a_worker_that_takes_many_partitions_beats_meanwhile(redis: Redis, kept_by: KeptBy) -> None:
    leases = DistantLeases(redis)
    async with kept_by(leases, partitions=16) as kept:
        await wait_until(lambda: len(kept.keeper.held) == 16, "all partitions are held")
        assert max(later - beat for beat, later in pairwise([*leases.beats, boot_seconds()])) < PULSE_GAP


async def test_a_partition_whose_acquisition_was_not_answered_is_kept_at_the_next_look(
    redis: Redis, kept_by: KeptBy
) -> None:
    async with kept_by(LossyLeases(redis)) as kept:
        await wait_until(lambda: set(kept.keeper.held) == {0, 1}, "both partitions are held")
        leases = (await LeaseStore(redis).observe(2)).leases
        assert {lease.owner for lease in leases} == {held.lease.owner for held in kept.keeper.held.values()}


async def test_what_is_acquired_while_a_drain_begins_is_given_back(redis: Redis, kept_by: KeptBy) -> None:
    leases = SlowLeases(redis)
    async with kept_by(leases) as kept:
        await leases.asked.wait()
        draining = asyncio.create_task(kept.drain.run(grace=0))
        await wait_until(lambda: kept.keeper.draining, "the drain has begun")
        leases.answer.set()
        await draining
        assert not kept.keeper.held
        assert [lease.owner for lease in (await leases.observe(2)).leases] == ["", ""]


async def test_a_partition_that_cannot_be_released_keeps_a_drain_from_nothing_else(
    redis: Redis, kept_by: KeptBy
) -> None:
    async with kept_by(LeaseStore(redis)) as kept:
        await wait_until(lambda: set(kept.keeper.held) == {0, 1}, "both partitions are held")
        await redis.execute_command(*BROKEN_TYPE)
        await kept.drain.run(grace=0)
        view = await LeaseStore(redis).observe(2)
        assert (view.leases[1].owner, view.members) == ("", frozenset())


async def test_a_process_that_does_not_work_acquires_nothing(redis: Redis, kept_by: KeptBy) -> None:
    looks: list[str] = []

    def works() -> bool:
        looks.append("look")
        return False

    async with kept_by(LeaseStore(redis), works=works) as kept:
        await wait_until(lambda: bool(kept.keeper.held) or len(looks) > 2, "it looked three times")
        assert not kept.keeper.held
        assert {lease.owner for lease in (await LeaseStore(redis).observe(2)).leases} == {""}


@pytest.mark.parametrize("break_it", [BROKEN_FIELD, BROKEN_TYPE], ids=["field", "type"])
async def test_a_partition_with_a_broken_lease_is_named_once_and_keeps_nobody_from_the_others(
    redis: Redis, kept_by: KeptBy, caplog: pytest.LogCaptureFixture, break_it: tuple[str, ...]
) -> None:
    await redis.execute_command(*break_it)

    async with kept_by(LeaseStore(redis)) as kept:
        await wait_until(lambda: 1 in kept.keeper.held, "the sound partition is held")
        looked = kept.keeper.fleet
        await wait_until(lambda: kept.keeper.fleet is not looked, "it looked again")
        assert 0 not in kept.keeper.held
        await redis.delete(keys.lease(0))
        await wait_until(lambda: set(kept.keeper.held) == {0, 1}, "the other one is held once its key is gone")

    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert f"{keys.lease(0)} cannot be read" in said[0]


async def test_a_partition_that_cannot_be_acquired_keeps_nobody_from_the_others(
    redis: Redis, kept_by: KeptBy, caplog: pytest.LogCaptureFixture
) -> None:
    for partition in range(PARTITIONS):
        if partition != SOUND:
            await redis.set(f"{keys.prefix(partition)}live", "not what it should be")

    async with kept_by(LeaseStore(redis), partitions=PARTITIONS) as kept:
        await wait_until(lambda: SOUND in kept.keeper.held, "the sound partition is held")

    assert "cannot be acquired" in caplog.text
    assert "keeping the partitions failed" not in caplog.text
