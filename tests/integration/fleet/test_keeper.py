"""The keeper of partitions, on a real store whose replies get lost or come late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime_core.store.attempts import AttemptStore
from runtime_core.store.leases import Lease, LeaseStore
from tests.integration.fleet.conftest import wait_until
from workers.control.drain import Drain
from workers.execution.attempts import AttemptTable
from workers.partitions.keeper import PartitionKeeper
from workers.partitions.rebalancer import Rebalancer

KeptBy = Callable[..., AbstractAsyncContextManager[tuple[PartitionKeeper, Drain]]]


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


class NoConsumer:
    def join(self, partition: int) -> None: ...

    def leave(self, partition: int) -> None: ...


async def _nothing() -> None: ...


@pytest.fixture
def kept_by(redis: Redis) -> KeptBy:
    @asynccontextmanager
    async def keep(
        leases: LeaseStore, works: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[tuple[PartitionKeeper, Drain]]:
        table = AttemptTable()
        keeper = PartitionKeeper(
            worker="w1",
            partitions=2,
            leases=leases,
            attempts=AttemptStore(redis),
            table=table,
            consumption=NoConsumer(),
            info=dict,
            works=works,
            expect_workers=1,
            on_left=lambda _: None,
            on_swept=_nothing,
            on_cascade=lambda _: None,
        )
        rebalancer = Rebalancer(keeper, table, worker="w1", grace=1)
        running = asyncio.create_task(keeper.run(rebalancer.consider))
        try:
            yield keeper, Drain(keeper, rebalancer, table, worker="w1")
        finally:
            running.cancel()
            await asyncio.wait({running})

    return keep


async def test_a_partition_whose_acquisition_was_not_answered_is_kept_at_the_next_look(
    redis: Redis, kept_by: KeptBy
) -> None:
    async with kept_by(LossyLeases(redis)) as (keeper, _):
        await wait_until(lambda: set(keeper.held) == {0, 1}, "both partitions are held", seconds=3)
        leases = (await LeaseStore(redis).observe(2)).leases
        assert {lease.owner for lease in leases} == {held.lease.owner for held in keeper.held.values()}


async def test_what_is_acquired_while_a_drain_begins_is_given_back(redis: Redis, kept_by: KeptBy) -> None:
    leases = SlowLeases(redis)
    async with kept_by(leases) as (keeper, drain):
        await leases.asked.wait()
        draining = asyncio.create_task(drain.run(grace=0))
        await wait_until(lambda: keeper.draining, "the drain has begun")
        leases.answer.set()
        await draining
        assert not keeper.held
        assert [lease.owner for lease in (await leases.observe(2)).leases] == ["", ""]


async def test_a_process_that_does_not_work_acquires_nothing(redis: Redis, kept_by: KeptBy) -> None:
    looks: list[str] = []

    def works() -> bool:
        looks.append("look")
        return False

    async with kept_by(LeaseStore(redis), works) as (keeper, _):
        await wait_until(lambda: bool(keeper.held) or len(looks) > 2, "it looked three times", seconds=3)
        assert not keeper.held
        assert {lease.owner for lease in (await LeaseStore(redis).observe(2)).leases} == {""}
