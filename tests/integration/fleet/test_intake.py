"""A doorbell's way in, on a real store and a real pool whose hub calls the test serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from celery.worker import state

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import RunRequest, RunState
from runtime_core.ids import ScopedRunId
from runtime_core.store.attempts import Admission, AttemptStore
from runtime_core.store.connection import connect
from runtime_core.store.leases import LeaseStore
from runtime_core.store.runs import RunStore
from workers.execution.attempts import AttemptTable
from workers.intake import Intake
from workers.partitions.ownership import Ownership
from workers.pool.asyncio_pool import TaskPool

RUN = ScopedRunId("r")


@dataclass
class OneOwner:
    """Owns the only partition. ``after_look`` is what another thread does just after the intake has looked."""

    attempts: AttemptStore
    ownership: Ownership
    after_look: Callable[[Ownership], object] = lambda _: None
    table: AttemptTable = field(default_factory=AttemptTable)
    config_version: int = 1
    session_idle_s: float = 60.0

    async def provide_config(self, version: int) -> int:
        return version

    def owner_of(self, partition: int) -> Ownership:
        self.after_look(self.ownership)
        return self.ownership


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    pool = TaskPool(limit=4)
    pool.on_start()
    yield pool
    pool.on_stop()


@pytest.fixture
def host(pool: TaskPool, redis_url: str) -> OneOwner:
    """The owner of a partition in which run ``r`` waits."""

    async def set_up() -> OneOwner:
        redis = connect(redis_url)
        await RunStore(redis, 1).submit(RunRequest(agent_id="a", session_id="s", input_text="hi", run_id="r"))
        lease = await LeaseStore(redis).acquire(0, "w#1")
        assert lease is not None
        return OneOwner(AttemptStore(redis), Ownership(lease, boot_seconds()))

    return pool.submit(set_up()).result(5)


def state_of_the_run(redis_url: str) -> RunState:
    async def read() -> RunState:
        async with connect(redis_url) as redis:
            return (await RunStore(redis, 1).get(RUN)).state

    return asyncio.run(read())


def test_a_doorbell_of_a_partition_frozen_just_now_is_dropped(pool: TaskPool, host: OneOwner, redis_url: str) -> None:
    """The thread that freezes lists the table once; an entry made after that would be handed over while it runs."""
    host.after_look = lambda ownership: setattr(ownership, "frozen", True)
    accepted: list[str] = []
    Intake(host, pool).receive(RUN, 0, lambda: accepted.append("r"))
    pool.serve_hub_calls(timeout=0.5)
    assert (accepted, RUN in host.table, pool.reserved) == ([], False, 0)
    assert state_of_the_run(redis_url) is RunState.QUEUED


def test_a_second_doorbell_is_dropped_while_the_first_is_in_hand(pool: TaskPool, host: OneOwner) -> None:
    intake, accepted = Intake(host, pool), list[str]()
    intake.receive(RUN, 0, lambda: accepted.append("first"))
    first = host.table.get(RUN)
    intake.receive(RUN, 0, lambda: accepted.append("second"))
    assert pool.reserved == 1, "the second asks for no admission"
    for _ in range(2):
        pool.serve_hub_calls(timeout=1)
    assert accepted == ["first"]
    assert host.table.get(RUN) is first
    assert first is not None
    assert isinstance(first.answer, Admission)


def test_the_record_decides_and_not_celerys_memory_of_revoked_ids(pool: TaskPool, host: OneOwner) -> None:
    state.revoked.add(RUN)
    remembered: list[bool] = []
    Intake(host, pool).receive(RUN, 0, lambda: remembered.append(RUN in state.revoked))
    pool.serve_hub_calls(timeout=2)
    assert remembered == [False]
