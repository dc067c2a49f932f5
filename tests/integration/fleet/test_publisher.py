"""Writes that Redis refuses, or whose replies are lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from runtime_core.contracts.frame import RunIds
from runtime_core.contracts.run import RunResult
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RuntimeEvent
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from tests.integration.store.conftest import Store
from workers.execution.publisher import Publisher, until_answered


class RefusingStore(AttemptStore):
    async def append(self, admission: Admission, frames: Sequence[NumberedFrame]) -> bool:
        if any(b"unbearable" in frame.data for frame in frames):
            raise ResponseError("refused")
        return await super().append(admission, frames)


async def _granted() -> None: ...


async def test_a_batch_that_redis_refuses_ends_the_stream_without_a_gap(redis: Redis) -> None:
    store = Store(redis)
    run = await store.submit("r1")
    admission = await store.admitted(await store.own(), run)
    ids = RunIds(run_id="r1", session_id="s", agent_id="a")
    lost: list[bool] = []
    publisher = Publisher(
        RefusingStore(redis), admission, ids, _granted, on_cancel=lambda: None, on_lost=lambda: lost.append(True)
    )

    def event(name: str, **payload: str) -> RuntimeEvent:
        return RuntimeEvent(name=name, payload=payload, ids=ids, attempt=1, config_version=1)

    await publisher.publish(event("run.started"))
    assert await publisher.flush() is None
    await publisher.publish(event("llm.delta", text="unbearable"))
    assert isinstance(await publisher.flush(), ResponseError)
    with pytest.raises(ResponseError):
        await publisher.publish(event("llm.delta", text="more"))

    assert not lost
    assert [sequence for sequence, _, _ in await store.events(run)] == [1, 2]
    assert publisher._sequence == 2


@pytest.mark.parametrize("applied", [True, False])
async def test_a_finish_whose_reply_was_lost_with_the_lease_is_known_to_be_written_or_not(
    redis: Redis, applied: bool
) -> None:
    store = Store(redis)
    run = await store.submit("r1")
    lease = await store.own()
    admission = await store.admitted(lease, run)
    tries: list[int] = []

    async def finish() -> None:
        tries.append(len(tries))
        if applied or len(tries) > 1:
            await store.attempts.finish(admission, result=RunResult(run_id="r1"), terminal=(2, b"{}"))
        if len(tries) == 1:
            await store.leases.release(lease)
            raise RedisConnectionError("the reply was lost")

    async def lost_after_the_first_try() -> None:
        if tries:
            raise LeaseLost("another worker owns the partition")

    try:
        await until_answered(finish, lost_after_the_first_try, "the result")
        written = True
    except LeaseLost:
        written = False
    assert written is applied
    assert len(tries) == 2
