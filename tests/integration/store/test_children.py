"""Child runs: known before they exist, cancelled with their parent."""

from __future__ import annotations

import pytest

from runtime_core.contracts.run import RunState, StopReason
from runtime_core.errors import QueueFull, RunConflict
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.runs import CancelOutcome, RunStore
from tests.integration.store.conftest import PARTITION, Store

PARENT = ScopedRunId("parent")
CASCADES = f"{keys.prefix(PARTITION)}cascades"


async def status(store: Store, run: str) -> StopReason | None:
    return (await store.runs.get(ScopedRunId(run))).status


async def test_a_cancel_reaches_children_and_theirs(store: Store) -> None:
    lease = await store.own()
    await store.submit(PARENT, "p")
    await store.admitted(lease, PARENT)
    await store.submit("child", "c", parent_run_id="parent")
    await store.submit("grandchild", "g", parent_run_id="child")
    await store.admitted(lease, "child")

    assert await store.runs.cancel(PARENT) is CancelOutcome.CANCELLING

    assert (await store.runs.get(ScopedRunId("child"))).cancel_requested
    assert await status(store, "grandchild") is StopReason.CANCELLED
    assert not await store.redis.exists(CASCADES)


async def test_a_cancelled_parent_takes_no_children(store: Store) -> None:
    lease = await store.own()
    await store.submit(PARENT, "p")
    await store.admitted(lease, PARENT)
    await store.runs.cancel(PARENT)
    with pytest.raises(RunConflict, match="takes no children"):
        await store.submit("child", "c", parent_run_id="parent")
    await store.take_over(lease, "w2")  # finishes the parent as cancelled
    with pytest.raises(RunConflict, match="takes no children"):
        await store.submit("child", "c", parent_run_id="parent")


async def test_what_a_dead_caller_left_undone_is_told_to_the_owner_and_done_by_a_repeat(store: Store) -> None:
    lease = await store.own()
    await store.submit(PARENT, "p")
    parent = await store.admitted(lease, PARENT)
    await store.submit("child", "c", parent_run_id="parent")
    await store.redis.sadd(f"{keys.prefix(PARTITION)}children:parent", "long over")
    await store.redis.hset(keys.run(PARTITION, PARENT), "cancel", 1)
    await store.redis.sadd(CASCADES, PARENT)
    await store.finish(parent, parent.sequence + 1, StopReason.CANCELLED)

    assert (await store.sweep(lease)).cascades == [PARENT]
    assert await store.runs.cancel(PARENT) is CancelOutcome.FINISHED
    assert await status(store, "child") is StopReason.CANCELLED
    assert (await store.sweep(lease)).cascades == []


async def test_a_cascade_whose_record_has_expired_is_forgotten(store: Store) -> None:
    lease = await store.own()
    await store.redis.sadd(CASCADES, "long over")
    assert (await store.sweep(lease)).cascades == []
    assert not await store.redis.exists(CASCADES)


async def test_a_parent_may_have_more_children_than_lua_unpacks(store: Store) -> None:
    lease = await store.own()
    await store.submit(PARENT, "p")
    await store.admitted(lease, PARENT)
    await store.submit("child", "c", parent_run_id="parent")
    over = [f"over {number}" for number in range(8_000)]
    await store.redis.sadd(f"{keys.prefix(PARTITION)}children:parent", *over)

    assert await store.runs.cancel(PARENT) is CancelOutcome.CANCELLING

    assert await status(store, "child") is StopReason.CANCELLED
    assert not await store.redis.exists(CASCADES), "all were told; a sweep may come too late for the lease"


async def test_the_id_of_a_run_outside_of_the_fleet_is_a_label(store: Store) -> None:
    await store.submit("child", "c", parent_run_id="elsewhere")
    assert (await store.runs.get(ScopedRunId("child"))).state is RunState.QUEUED


async def test_a_repeated_submit_finds_the_child_of_a_cancelled_parent(store: Store) -> None:
    await store.submit(PARENT, "p")
    await store.submit("child", "c", parent_run_id="parent")
    await store.runs.cancel(PARENT)
    assert await store.submit("child", "c", parent_run_id="parent") == "child"


async def test_a_run_that_is_refused_is_no_child(store: Store) -> None:
    store.runs = RunStore(store.redis, 1, session_limit=1)
    await store.submit(PARENT, "p")
    with pytest.raises(QueueFull):
        await store.submit("child", "p", parent_run_id="parent")
    assert not await store.redis.exists(f"{keys.prefix(PARTITION)}children:parent")


async def test_runs_that_name_each_other_as_parents_are_cancelled_once(store: Store) -> None:
    await store.submit(PARENT, "p", parent_run_id="child")
    await store.submit("child", "c", parent_run_id="parent")
    assert await store.runs.cancel(ScopedRunId("child")) is CancelOutcome.CANCELLED
    assert await status(store, PARENT) is None
    assert await store.runs.cancel(PARENT) is CancelOutcome.CANCELLED


async def test_children_end_alone_when_their_parent_completes(store: Store) -> None:
    lease = await store.own()
    await store.submit(PARENT, "p")
    parent = await store.admitted(lease, PARENT)
    await store.submit("child", "c", parent_run_id="parent")
    await store.finish(parent, parent.sequence + 1)
    assert await store.runs.cancel(PARENT) is CancelOutcome.FINISHED
    assert await status(store, "child") is None
