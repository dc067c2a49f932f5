"""What a publisher does when Redis refuses what it writes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime_core.contracts.frame import RunIds
from runtime_core.events.bus import RuntimeEvent
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from tests.integration.store.conftest import Store
from workers.execution.publisher import Publisher


class RefusingStore(AttemptStore):
    async def append(self, admission: Admission, frames: Sequence[NumberedFrame]) -> bool:
        if any(b"unbearable" in data for _, _, data in frames):
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
