"""acquire, renew, release, sweep, repair: who may write, and what happens to runs when that changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.errors import LeaseLost, RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import NumberedFrame, Refusal, RefusalReason
from runtime_core.store.connection import connect_sync
from runtime_core.store.leases import Lease, Renewed, renew
from runtime_core.store.sessions import message_entry
from runtime_core.store.timing import LEASE_TTL_MS
from tests.integration.store.conftest import PARTITION, Store, frame

R1 = ScopedRunId("r1")
#: As in _prelude.lua.
RINGS_AT_ONCE = 500


async def test_a_held_partition_is_not_taken_and_a_repeat_changes_nothing(store: Store) -> None:
    lease = await store.own("w1")
    assert await store.leases.acquire(PARTITION, "w2#x") is None
    assert await store.leases.acquire(PARTITION, lease.owner) == lease


async def test_a_repeated_acquisition_extends_the_lease_that_it_got(store: Store) -> None:
    lease = await store.own("w1")
    await store.expire(lease)
    assert await store.leases.acquire(PARTITION, lease.owner) == lease
    view = await store.leases.observe(1)
    assert view.leases[PARTITION].expires_ms > view.now_ms


async def test_an_expired_lease_is_taken_only_if_redis_answered_for_a_ttl(store: Store) -> None:
    lease = await store.own("w1")
    await store.expire(lease)
    assert await store.leases.acquire(PARTITION, "w2#x") is None  # nobody knows whether Redis was there
    await store.pulse(since_ago_ms=LEASE_TTL_MS - 500, last_ago_ms=100)
    assert await store.leases.acquire(PARTITION, "w2#x") is None  # it was back for less than a TTL
    await store.pulse(since_ago_ms=60_000, last_ago_ms=3_000)
    assert await store.leases.acquire(PARTITION, "w2#x") is None  # it was away just now
    await store.pulse(since_ago_ms=60_000, last_ago_ms=-3_000)
    assert await store.leases.acquire(PARTITION, "w2#x") is None  # its clock went back
    await store.pulse(since_ago_ms=LEASE_TTL_MS + 500, last_ago_ms=100)
    assert await store.leases.acquire(PARTITION, "w2#x") is not None


async def test_an_expired_lease_is_not_taken_before_it_stood_still_for_a_ttl(store: Store) -> None:
    await store.own("w1")
    await store.steady()
    assert await store.leases.acquire(PARTITION, "w2#x") is None
    seconds, _ = await store.redis.time()
    await store.redis.hset(keys.lease(PARTITION), "expires", (seconds + 2) * 1000)
    assert await store.leases.acquire(PARTITION, "w2#x") is None
    await store.redis.hset(keys.lease(PARTITION), "expires", seconds * 1000)
    assert await store.leases.acquire(PARTITION, "w2#x") is not None


async def test_a_lease_renewed_before_the_clock_went_back_is_taken_a_ttl_after_that(store: Store) -> None:
    lease = await store.own("w1")
    seconds, _ = await store.redis.time()
    await store.redis.hset(keys.lease(lease.partition), "expires", (seconds + 3_600) * 1000)
    await store.pulse(since_ago_ms=LEASE_TTL_MS - 500, last_ago_ms=100)
    assert await store.leases.acquire(PARTITION, "w2#x") is None
    await store.pulse(since_ago_ms=LEASE_TTL_MS + 500, last_ago_ms=100)
    assert await store.leases.acquire(PARTITION, "w2#x") is not None


async def test_a_renewal_carries_more_cancels_than_lua_can_unpack(store: Store, redis_url: str) -> None:
    lease = await store.own("w1")
    cancels = {f"r{number}" for number in range(10_000)}
    await store.redis.sadd(f"{keys.prefix(PARTITION)}cancels", *cancels)
    client = connect_sync(redis_url)
    (renewed,) = await asyncio.to_thread(renew, client, [lease])
    client.close()
    assert not isinstance(renewed, RunlaneError), renewed
    assert set(renewed.cancels) == cancels


async def test_fences_grow_with_each_acquisition(store: Store) -> None:
    fences: list[int] = []
    for worker in ("w1", "w2", "w1"):
        lease = await store.own(worker)
        fences.append(int(lease.fence))
        await store.leases.release(lease)
    assert fences == sorted(set(fences))


async def test_a_reserved_partition_waits_for_its_member_as_long_as_that_beats(store: Store) -> None:
    lease = await store.own("w1")
    await store.leases.release(lease, reserved_for="nobody")
    lease = await store.own("w1")
    await store.leases.heartbeat("w2", {}, accepting=True)
    await store.leases.release(lease, reserved_for="w2")
    assert await store.leases.acquire(PARTITION, "w3#x") is None
    assert await store.leases.acquire(PARTITION, "w2#x") is not None


async def test_a_takeover_requeues_what_ran_and_rings_every_head_once_oldest_first(store: Store) -> None:
    lease = await store.own("w1")
    for run, session in (("r1", "s1"), ("r2", "s2"), ("r3", "s2"), ("r4", "s3")):
        await store.submit(run, session)
    await store.admitted(lease, "r1")

    taken = await store.take_over(lease, "w2")

    assert await store.bells() == ["r1", "r2", "r4"]
    record = await store.runs.get(R1)
    assert (record.state, record.crashes, record.interruptions) == (RunState.QUEUED, 1, 0)
    assert await store.events("r1") == [(1, 0, "run.queued"), (2, 1, "run.started"), (3, 1, "run.interrupted")]
    assert (await store.admitted(taken, "r1")).attempt == 2


async def test_however_many_sessions_wait_one_script_rings_a_bounded_number_and_what_had_started_first(
    store: Store,
) -> None:
    lease = await store.own("w1")
    requests = [
        RunRequest(agent_id="a", session_id=f"s{number}", input_text="hi", run_id=f"r{number}")
        for number in range(2 * RINGS_AT_ONCE)
    ]
    await store.runs.submit_many(requests)
    newest = requests[-1].run_id
    await store.admitted(lease, newest)
    await store.overdue()

    taken = await store.take_over(lease, "w2")

    first = await store.bells()
    assert len(first) == RINGS_AT_ONCE
    assert newest in first
    await store.overdue()
    await store.sweep(taken, in_hand=0)
    assert len(await store.bells()) == len(requests)
    await store.redis.delete(keys.queue(PARTITION))
    await store.overdue()
    await store.sweep(taken, in_hand=0)
    assert len(await store.bells()) == RINGS_AT_ONCE


async def test_a_takeover_from_a_worker_that_still_beats_is_no_crash(store: Store) -> None:
    await store.leases.heartbeat("w1", {"pid": "1"}, accepting=True)
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")
    await store.take_over(lease, "w2")

    record = await store.runs.get(R1)
    assert (record.crashes, record.interruptions) == (0, 1)


async def test_a_handover_counts_nothing_against_a_run(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")
    await store.leases.release(lease)

    record = await store.runs.get(R1)
    assert (record.state, record.crashes, record.interruptions, record.handovers) == (RunState.QUEUED, 0, 0, 1)
    history = await store.redis.lrange("rl:{p0000}:crashes:r1", 0, -1)
    assert [json.loads(entry)["count"] for entry in history] == ["handovers"]


async def test_a_run_that_is_interrupted_for_the_fifth_time_becomes_a_dead_letter(store: Store) -> None:
    await store.submit("r1")
    await store.submit("r2")
    await store.leases.heartbeat("w1", {}, accepting=False)
    lease = await store.own("w1")
    for _ in range(5):
        await store.admitted(lease, "r1")
        assert (await store.attempts.repair(lease, R1, (await store.runs.get(R1)).attempt)) is True

    record = await store.runs.get(R1)
    assert record.status is StopReason.DEAD_LETTER
    assert record.result is not None
    assert record.result.error_details is not None
    assert record.result.error_details.code == "run.dead_letter"
    await store.admitted(lease, "r2")


async def test_a_run_with_a_cancel_pending_ends_at_the_takeover(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")
    await store.runs.cancel(R1)
    await store.take_over(lease, "w2")
    assert (await store.runs.get(R1)).status is StopReason.CANCELLED


async def test_renewal_extends_revives_and_carries_cancels(store: Store, redis_url: str) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")
    await store.runs.cancel(R1)
    await store.expire(lease)
    client = connect_sync(redis_url)
    client.script_flush()

    assert await asyncio.to_thread(renew, client, [lease]) == [Renewed(cancels=[R1], woken=[])]
    view = (await store.leases.observe(1)).leases[PARTITION]
    assert view.expires_ms > 1
    taken = await store.take_over(lease, "w2")
    lost, kept = await asyncio.to_thread(renew, client, [lease, taken])
    assert isinstance(lost, LeaseLost)
    assert kept == Renewed(cancels=[], woken=[])
    client.close()


Write = Callable[[Store, Lease], Awaitable[object]]


@pytest.mark.parametrize("moment", ["queued", "running", "finished"])
async def test_a_worker_that_lost_its_lease_writes_nothing_more(store: Store, redis_url: str, moment: str) -> None:
    """Every script that writes for a worker is called with a stale (owner, fence)."""
    stale = await store.own("w1")
    await store.submit("r1")
    admission = await store.admitted(stale, "r1")
    fresh = await store.take_over(stale, "w2")
    if moment != "queued":
        second = await store.admitted(fresh, "r1")
        if moment == "finished":
            await store.finish(second, second.sequence + 1)
    before = {key: await store.redis.dump(key) async for key in store.redis.scan_iter("*")}
    following = (await store.runs.get(R1)).sequence + 1

    for write in (
        store.attempts.append(admission, [NumberedFrame(following, True, frame(admission, following, "llm.delta"))]),
        store.attempts.stage(admission, 0, [json.dumps(message_entry({}))]),
        store.finish(admission, following),
        store.attempts.free_session(admission),
        store.sweep(stale),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await store.attempts.repair(stale, R1, 2) is False
    refusal = await store.admit(stale, "r1")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.FENCED
    await store.leases.release(stale)
    client = connect_sync(redis_url)
    assert isinstance((await asyncio.to_thread(renew, client, [stale]))[0], LeaseLost)
    client.close()

    assert {key: await store.redis.dump(key) async for key in store.redis.scan_iter("*")} == before


async def test_a_fence_number_that_comes_back_with_another_owner_lets_nobody_write(store: Store) -> None:
    """Redis restored from an old copy may give a number out again; the owner's name is unique."""
    old = await store.own("w1")
    await store.submit("r1")
    admission = await store.admitted(old, "r1")
    await store.redis.hset(keys.lease(PARTITION), "owner", "w2#restored")

    for write in (
        store.attempts.append(admission, [NumberedFrame(3, True, frame(admission, 3, "llm.delta"))]),
        store.attempts.stage(admission, 0, [json.dumps(message_entry({}))]),
        store.finish(admission, admission.sequence + 1),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await store.attempts.repair(old, R1, 1) is False
    assert (await store.runs.get(R1)).state is RunState.RUNNING


async def test_an_earlier_attempt_of_the_same_owner_writes_nothing_more(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    first = await store.admitted(lease, "r1")
    await store.attempts.repair(lease, R1, 1)
    second = await store.admitted(lease, "r1")

    for write in (
        store.attempts.append(first, [NumberedFrame(5, True, frame(first, 5, "llm.delta"))]),
        store.attempts.stage(first, 0, [json.dumps(message_entry({"of": "first"}))]),
        store.finish(first, 5),
    ):
        with pytest.raises(LeaseLost):
            await write
    await store.finish(second, second.sequence + 1)
    assert await store.events("r1") == [
        (1, 0, "run.queued"),
        (2, 1, "run.started"),
        (3, 1, "run.interrupted"),
        (4, 2, "run.started"),
        (5, 2, "run.finished"),
    ]


async def test_an_expired_lease_repairs_nothing(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.admitted(lease, "r1")
    await store.expire(lease)
    assert await store.attempts.repair(lease, R1, 1) is False


async def test_a_run_that_kills_its_workers_becomes_a_dead_letter_with_its_history(store: Store) -> None:
    await store.submit("r1")
    lease = await store.own("w0")
    for number in range(1, 6):
        await store.admitted(lease, "r1")
        lease = await store.take_over(lease, f"w{number}")

    record = await store.runs.get(R1)
    assert (record.status, record.crashes, record.charges) == (StopReason.DEAD_LETTER, 5, 3)
    assert await store.redis.xlen("rl:{p0000}:dead") == 1
    history = [json.loads(entry) for entry in await store.redis.lrange("rl:{p0000}:crashes:r1", 0, -1)]
    assert [entry["worker"] for entry in history] == [f"w{number}" for number in range(5)]


async def test_the_history_of_a_run_is_bounded(store: Store) -> None:
    await store.submit("r1")
    for number in range(25):
        lease = await store.own(f"w{number}")
        await store.admitted(lease, "r1")
        await store.leases.release(lease)
    assert await store.redis.llen("rl:{p0000}:crashes:r1") == 20


async def test_an_expired_lease_that_nobody_took_may_write_but_not_admit(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    await store.submit("r2", "s2")
    admission = await store.admitted(lease, "r1")
    await store.expire(lease)

    refusal = await store.admit(lease, "r2")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.FENCED
    with pytest.raises(LeaseLost):
        await store.sweep(lease, in_hand=0)
    await store.finish(admission, admission.sequence + 1)
    assert (await store.runs.get(R1)).status is StopReason.COMPLETED
