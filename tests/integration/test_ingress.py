"""Submissions of plain Celery clients that find no room: kept for a moment, then given back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import RunRequest, RunState
from runtime_core.errors import QueueFull
from runtime_core.ids import ScopedRunId, ingress_run_id
from runtime_core.store import keys
from runtime_core.store.runs import RunStore
from workers.ingress import HOLD_SECONDS, submit_request

FIRST, SECOND = ScopedRunId("first"), ScopedRunId(ingress_run_id("celery-2"))
REQUEST = {"agent_id": "a", "session_id": "s", "input_text": "hi"}


@pytest.fixture
async def runs(redis: Redis) -> RunStore:
    """A store whose sessions hold one run each; that of ``s`` is there."""
    runs = RunStore(redis, 1, session_limit=1)
    await runs.submit(RunRequest.model_validate(REQUEST | {"run_id": FIRST}))
    return runs


async def retry_after(redis: Any, milliseconds: int) -> None:
    await redis.hset(f"{keys.prefix(0)}stats", "run_ms", milliseconds)


async def scripts_run(redis: Any) -> int:
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_a_submission_waits_in_hand_until_there_is_room(redis: Redis, runs: RunStore) -> None:
    await retry_after(redis, 100)
    submitting = asyncio.create_task(submit_request(runs, "celery-2", [REQUEST], {}))
    before = await scripts_run(redis)
    while await scripts_run(redis) < before + 2:
        assert not submitting.done()
    await runs.cancel(FIRST)
    assert await submitting is None
    assert (await runs.get(SECOND)).state is RunState.QUEUED


async def test_a_submission_that_finds_no_room_is_given_back_and_its_next_delivery_is_the_same_run(
    redis: Redis, runs: RunStore
) -> None:
    await retry_after(redis, 30_000)
    started = boot_seconds()
    with pytest.raises(QueueFull):
        await submit_request(runs, "celery-2", [REQUEST], {})
    assert HOLD_SECONDS <= boot_seconds() - started < HOLD_SECONDS + 2
    assert not await redis.exists(keys.run_pointer(SECOND)), "nothing is recorded"
    await runs.cancel(FIRST)
    for _ in range(2):  # delivered twice
        assert await submit_request(runs, "celery-2", [REQUEST], {}) is None
    mailbox: Any = redis.lrange("rl:{p0000}:mailbox:default/s", 0, -1)
    assert await mailbox == [SECOND]


async def test_it_is_tried_again_no_sooner_than_asked(redis: Redis, runs: RunStore) -> None:
    await retry_after(redis, 800)
    before = await scripts_run(redis)
    with pytest.raises(QueueFull):
        await submit_request(runs, "celery-2", [REQUEST], {})
    assert await scripts_run(redis) - before == 3, "at once, after 0.8 s and after 1.6 s"
