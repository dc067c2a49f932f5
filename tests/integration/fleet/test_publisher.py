"""What a publisher writes, in how many scripts; and writes that Redis refuses, or whose replies are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from runtime_core.contracts.frame import INLINE_BYTES, Frame, RunIds, decode_frame
from runtime_core.contracts.run import RunResult
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RuntimeEvent
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from tests.integration.fleet.conftest import wait_until
from tests.integration.store.conftest import Store
from workers.execution.event_buffer import BATCH_EVENTS, BUFFER_EVENTS
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

    await publisher.publish(event("run.started"))  # admit.lua has written it
    await publisher.publish(event("llm.delta", text="bearable"))
    assert await publisher.flush() is None
    await publisher.publish(event("llm.delta", text="unbearable"))
    assert isinstance(await publisher.flush(), ResponseError)
    with pytest.raises(ResponseError):
        await publisher.publish(event("llm.delta", text="more"))

    assert not lost
    assert await store.events(run) == [(1, 0, "run.queued"), (2, 1, "run.started"), (3, 1, "llm.delta")]
    assert publisher._sequence == 3


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
            await store.attempts.finish(
                admission, result=RunResult(run_id="r1"), terminal=(admission.sequence + 1, b"{}")
            )
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


class Held(AttemptStore):
    """Redis answers an append only when it is let; ``batches`` are what was asked of it."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.open = asyncio.Event()
        self.batches: list[Sequence[NumberedFrame]] = []

    async def append(self, admission: Admission, frames: Sequence[NumberedFrame]) -> bool:
        self.batches.append(frames)
        await self.open.wait()
        return await super().append(admission, frames)


@dataclass(frozen=True, kw_only=True)
class Publishing:
    store: Store
    held: Held
    admission: Admission
    publisher: Publisher

    async def say(self, name: str, **payload: Any) -> None:
        await self.publisher.publish(RuntimeEvent(name=name, payload=payload, attempt=1, config_version=1))

    async def log(self) -> list[Frame]:
        return await self.store.frames(self.admission.run)


@pytest.fixture
async def publishing(redis: Redis) -> Publishing:
    store, held = Store(redis), Held(redis)
    admission = await store.admitted(await store.own(), await store.submit("r1"))
    ids = RunIds(run_id="r1", session_id="s", agent_id="a")
    publisher = Publisher(held, admission, ids, _granted, on_cancel=lambda: None, on_lost=lambda: None)
    return Publishing(store=store, held=held, admission=admission, publisher=publisher)


async def test_a_lone_event_leaves_at_once_and_what_comes_meanwhile_leaves_together(publishing: Publishing) -> None:
    await publishing.say("llm.delta", text="a")
    await wait_until(lambda: len(publishing.held.batches) == 1, "the first is under way")
    for text in "bcd":
        await publishing.say("llm.delta", text=text)
    await publishing.say("tool.called", tool_id="t", call_id="c", params={})
    await publishing.say("llm.delta", text="e")
    publishing.held.open.set()
    assert await publishing.publisher.flush() is None

    assert [len(batch) for batch in publishing.held.batches] == [1, 3]
    log = await publishing.log()
    assert [(frame.sequence, frame.payload.get("text")) for frame in log[2:]] == [
        (3, "a"),
        (4, "bcd"),
        (5, None),
        (6, "e"),
    ]


async def test_an_agent_is_slowed_only_when_the_buffer_is_full_and_nothing_is_lost(publishing: Publishing) -> None:
    async def chatter() -> None:
        for number in range(1_500):
            await publishing.say("tool.delta", tool_id="t", call_id="c", number=number)

    chattering = asyncio.create_task(chatter())
    await wait_until(lambda: len(publishing.held.batches) == 1, "the first batch is under way")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not chattering.done()
    assert publishing.publisher.waiting == BUFFER_EVENTS - BATCH_EVENTS
    publishing.held.open.set()
    await chattering
    assert await publishing.publisher.flush() is None

    assert [frame.payload["number"] for frame in (await publishing.log())[2:]] == list(range(1_500))
    assert max(map(len, publishing.held.batches)) == BATCH_EVENTS


async def test_what_is_too_large_to_travel_is_stored_once_and_what_is_too_large_to_store_is_named(
    publishing: Publishing,
) -> None:
    publishing.held.open.set()
    for size in (INLINE_BYTES, 2 * INLINE_BYTES, 5_000_000):
        await publishing.say("tool.succeeded", tool_id="t", call_id=f"c{size}", result="x" * size)
    await publishing.say("usage.updated", usage="x" * 2 * INLINE_BYTES)
    assert await publishing.publisher.flush() is None

    inline, stored, dropped = (await publishing.log())[2:]
    payloads: Any = await publishing.store.redis.hgetall(keys.payloads(0, publishing.admission.run))
    assert inline.stored is not None, "the envelope counts"
    assert stored.payload == {"tool_id": "t", "call_id": f"c{2 * INLINE_BYTES}"}
    assert stored.stored == len(payloads["4"])
    assert dropped.payload == {"tool_id": "t", "call_id": "c5000000", "too_large": dropped.payload["too_large"]}
    assert dropped.payload["too_large"] > 5_000_000
    assert sorted(payloads) == ["3", "4"]
    written = [frame for batch in publishing.held.batches for frame in batch]
    assert [len(frame.data) < 1_000 for frame in written] == [True] * 4
    assert [bool(frame.payload) for frame in written] == [True, True, False, False], "nobody could fetch a live one"


async def test_a_large_result_stands_in_the_record_alone(publishing: Publishing) -> None:
    small = publishing.publisher.terminal(RunResult(run_id="r1", final_output="x"))
    large = publishing.publisher.terminal(RunResult(run_id="r1", final_output="x" * INLINE_BYTES))

    assert decode_frame(small[1]).payload["result"]["final_output"] == "x"
    assert decode_frame(large[1]).payload == {"stop_reason": "completed"}
    assert (decode_frame(large[1]).stored or 0) > INLINE_BYTES


async def test_of_what_waits_at_the_end_only_the_last_batch_is_left_to_finish(publishing: Publishing) -> None:
    publishing.held.open.set()
    for number in range(2 * BATCH_EVENTS + 7):
        await publishing.say("tool.called", tool_id="t", call_id=f"c{number}", params={})
    publishing.publisher.hold()
    assert await publishing.publisher.flush() is None

    rest = publishing.publisher.rest()
    assert [len(batch) for batch in publishing.held.batches] == [BATCH_EVENTS, BATCH_EVENTS]
    assert [frame.sequence for frame in rest] == list(range(2 * BATCH_EVENTS + 3, 2 * BATCH_EVENTS + 10))
    assert publishing.publisher.waiting == 0
