"""What readers of a run hear, in which order: the script that begins an attempt says so, then the attempt speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from runtime_core.contracts.frame import decode_frame
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, NumberedFrame
from tests.integration.store.conftest import PARTITION, Store, frame

Heard = Callable[[], Awaitable[list[tuple[bool, int, str]]]]

#: Of three words and three live ones; a live one carries the number of the logged one before it.
BATCH = [(False, 2), (True, 3), (False, 3), (True, 4), (True, 5), (False, 5)]
SAID = [(logged, number, "llm.delta" if logged else "tool.delta") for logged, number in BATCH]


@asynccontextmanager
async def listener(store: Store, run: str) -> AsyncGenerator[Heard]:
    """What was published since the last call: (logged, sequence, event) of each frame."""
    channel = keys.events_channel(PARTITION, ScopedRunId(run))
    async with store.redis.pubsub() as subscription:
        await subscription.subscribe(channel)
        assert (await subscription.get_message(timeout=5))["type"] == "subscribe"

        async def heard() -> list[tuple[bool, int, str]]:
            await store.redis.publish(channel, "that is all")
            found: list[tuple[bool, int, str]] = []
            while (message := await subscription.get_message(timeout=5))["data"] != "that is all":
                said = decode_frame(message["data"])
                found.append((said.logged, said.sequence, said.event))
            return found

        yield heard


def batch(admission: Admission) -> list[NumberedFrame]:
    return [NumberedFrame(number, logged, _data(admission, logged, number)) for logged, number in BATCH]


def _data(admission: Admission, logged: bool, number: int) -> bytes:
    if logged:
        return frame(admission, number, "llm.delta")
    return frame(admission, number, "tool.delta").replace(b'"logged":true', b'"logged":false')


async def test_an_admission_comes_with_the_first_frame_of_its_attempt(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    async with listener(store, "r1") as heard:
        first = await store.admitted(lease, "r1")
        assert await heard() == [(True, first.sequence, "run.started")]
        assert await store.events("r1") == [(1, 0, "run.queued"), (first.sequence, 1, "run.started")]

        second = await store.admitted(await store.take_over(lease, "w2"), "r1")

        assert await heard() == [(True, 3, "run.interrupted"), (True, second.sequence, "run.started")]
    assert (await store.events("r1"))[-1] == (second.sequence, 2, "run.started")
    assert (await store.runs.get(second.run)).sequence == second.sequence == 4
    assert [said.payload for said in await store.frames("r1") if said.event == "run.started"] == [{}, {}]


async def test_an_attempt_begins_once_however_often_its_delivery_asks(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    first = await store.admit(lease, "r1", nonce="delivery")
    async with listener(store, "r1") as heard:
        assert await store.admit(lease, "r1", nonce="delivery") == first
        await store.admit(lease, "r1", nonce="another delivery")  # refused: it executes already
        assert await heard() == []
    assert await store.events("r1") == [(1, 0, "run.queued"), (2, 1, "run.started")]


async def test_a_child_in_its_parents_session_begins_as_every_attempt_does(store: Store) -> None:
    lease = await store.own("w1")
    request = RunRequest(agent_id="b", session_id="s", input_text="x", run_id="child", parent_run_id="parent")
    await store.submit("parent")
    parent = await store.admitted(lease, "parent")
    async with listener(store, "child") as heard:
        child = await store.attempts.add_child(parent, request, tenant="default")
        assert child is not None
        assert await store.attempts.add_child(parent, request, tenant="default") == child, "also when repeated"
        assert await heard() == [(True, 1, "run.queued"), (True, child.sequence, "run.started")]

        again = await store.admitted(await store.take_over(lease, "w2"), "parent")
        adopted = await store.attempts.add_child(again, request, tenant="default")

        assert adopted is not None
        assert await heard() == [(True, 3, "run.interrupted"), (True, adopted.sequence, "run.started")]
    assert await store.events("child") == [
        (1, 0, "run.queued"),
        (child.sequence, 1, "run.started"),
        (3, 1, "run.interrupted"),
        (adopted.sequence, 2, "run.started"),
    ]
    assert (await store.events("parent"))[-1] == (again.sequence, 2, "run.started"), "each has its own"


async def test_live_frames_are_published_between_the_logged_ones_and_not_logged(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    async with listener(store, "r1") as heard:
        await store.attempts.append(admission, batch(admission))
        assert await heard() == SAID
        await store.attempts.append(admission, [NumberedFrame(5, False, _data(admission, False, 5))])
        assert await heard() == [SAID[-1]]
    assert [number for number, _, _ in await store.events("r1")] == [1, 2, 3, 4, 5]
    assert (await store.runs.get(admission.run)).sequence == 5


async def test_the_last_frames_of_a_run_are_published_in_order_before_its_end(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    async with listener(store, "r1") as heard:
        await store.attempts.finish(
            admission,
            result=RunResult(run_id="r1"),
            terminal=(6, frame(admission, 6, "run.finished")),
            frames=batch(admission),
        )
        assert await heard() == [*SAID, (True, 6, "run.finished")]
    assert [number for number, _, _ in await store.events("r1")] == [1, 2, 3, 4, 5, 6]
