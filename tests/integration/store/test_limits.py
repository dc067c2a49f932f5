"""Backpressure at submit and the queue deadline."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.errors import ConfigError, QueueFull
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys
from runtime_core.store.attempts import Refusal
from runtime_core.store.runs import RunStore
from tests.integration.store.conftest import PARTITION, Store

R1, R2 = ScopedRunId("r1"), ScopedRunId("r2")


def request(run_id: str, session_id: str = "s") -> RunRequest:
    return RunRequest(agent_id="a", session_id=session_id, input_text="hi", run_id=run_id)


@pytest.mark.parametrize(("what", "session"), [("session", "s"), ("partition", "another")])
async def test_a_full_queue_says_when_to_try_again(redis: Redis, what: str, session: str) -> None:
    limits = {"session_limit": 2} if what == "session" else {"partition_limit": 2}
    runs = RunStore(redis, 1, **limits)
    for run in ("r1", "r2"):
        await runs.submit(request(run))
    with pytest.raises(QueueFull, match=f"the {what} has 2") as full:
        await runs.submit(request("r3", session))
    assert full.value.retryable
    assert full.value.retry_after_ms == 1000
    assert f"RUNLANE_{what.upper()}_QUEUE_LIMIT" in str(full.value)
    assert not (await runs.submit(request("r1"))).created  # a repeat is no new run
    await runs.cancel(R1)
    assert (await runs.submit(request("r3", session))).created


async def test_the_next_try_is_after_about_a_run(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    seconds, _ = await store.redis.time()
    await store.redis.hset(keys.run(PARTITION, R1), "started_ms", (seconds - 7) * 1000)
    await store.finish(admission, admission.sequence + 1)
    runs = RunStore(store.redis, 1, session_limit=1)
    await runs.submit(request("r2"))
    with pytest.raises(QueueFull) as full:
        await runs.submit(request("r3"))
    assert full.value.retry_after_ms is not None
    assert 7_000 <= full.value.retry_after_ms < 9_000


async def test_one_that_is_full_stops_no_other(redis: Redis) -> None:
    runs = RunStore(redis, 1, session_limit=1)
    first, second, third = await runs.submit_many([request("r1"), request("r2"), request("r3", "t")])
    assert isinstance(second, QueueFull)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)


async def make_due(store: Store, run: str) -> None:
    await store.redis.hset(keys.run(PARTITION, ScopedRunId(run)), "deadline", 1)
    await store.redis.zadd(f"{keys.prefix(PARTITION)}deadlines", {run: 1})


async def test_a_run_that_waits_past_its_deadline_ends_wherever_it_stands(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.submit("r2", queue_deadline_ms=60_000)
    await store.submit("r3")
    await store.admitted(lease, "r1")
    await store.sweep(lease)
    assert (await store.runs.get(R2)).state is RunState.QUEUED

    await make_due(store, "r2")
    await store.sweep(lease)

    record = await store.runs.get(R2)
    assert record.status is StopReason.TIMEOUT
    assert record.result is not None
    assert record.result.error_details is not None
    assert record.result.error_details.code == "queue.deadline"
    assert await store.events("r2") == [(1, 0, "run.queued"), (2, 0, "run.finished")]
    assert await store.redis.lrange(keys.mailbox(PARTITION, SessionKey("default/s")), 0, -1) == ["r1", "r3"]


async def test_a_doorbell_that_comes_too_late_ends_the_run_and_reports_it(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1", queue_deadline_ms=60_000)
    await store.submit("r2")
    await make_due(store, "r1")
    answer = await store.admit(lease, "r1")
    assert isinstance(answer, Refusal)
    assert answer.announce is StopReason.TIMEOUT
    await store.admitted(lease, "r2")


async def test_a_run_that_started_in_time_has_no_deadline_any_more(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1", queue_deadline_ms=60_000)
    assert (await store.runs.get(R1)).deadline_ms
    await store.admitted(lease, "r1")
    assert (await store.runs.get(R1)).deadline_ms is None
    assert not await store.redis.exists(f"{keys.prefix(PARTITION)}deadlines")
    lease = await store.take_over(lease, "w2")
    await store.sweep(lease)
    assert (await store.admitted(lease, "r1")).attempt == 2


@pytest.mark.parametrize("milliseconds", [0, -1, 10**400], ids=["now", "past", "beyond 2^53"])
def test_a_deadline_that_the_store_cannot_count_is_refused_before_it_is_submitted(milliseconds: int) -> None:
    with pytest.raises(ValidationError, match="queue_deadline_ms"):
        RunRequest(agent_id="a", session_id="s", input_text="hi", queue_deadline_ms=milliseconds)


@pytest.mark.parametrize("limit", ["session_limit", "partition_limit"])
async def test_a_limit_below_one_is_refused(store: Store, limit: str) -> None:
    with pytest.raises(ConfigError, match=f"{limit} is 0"):
        RunStore(store.redis, 1, **{limit: 0})
