"""Streams that were cut short, too large, or of a family; the worker's side is driven by hand through real scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from producer.client import AsyncClient
from producer.family import CHILDREN_SHOWN
from producer.handle import RunHandle
from producer.relay import SILENCE_S
from producer.subscriptions import BUFFER_CHARACTERS, Message, Signal, Subscription
from runtime_core.contracts.frame import INLINE_BYTES
from runtime_core.contracts.run import RunRequest
from runtime_core.contracts.stream import RunStreamChunk, StreamSnapshot
from runtime_core.errors import InvalidInputError, RunlaneError, SessionError, SessionNotFound
from runtime_core.ids import idempotent_run_id
from runtime_core.store import keys
from tests.integration.attempt_by_hand import AttemptByHand

PARTITIONS = 64


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


def hello(session_id: str = "s1", **fields: Any) -> RunRequest:
    return RunRequest(agent_id="assistant", session_id=session_id, input_text="hello", **fields)


async def collect(handle: RunHandle, after: int | str = 0, *, children: bool = False) -> list[RunStreamChunk]:
    return [chunk async for chunk in handle.stream(after, children=children)]


async def begin(redis: Redis, run: str) -> AttemptByHand:
    return await AttemptByHand.begin(redis, run, PARTITIONS)


async def test_who_comes_after_the_log_was_cut_gets_how_the_run_stood_and_what_follows(
    client: AsyncClient, redis: Redis
) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    await attempt.emit("llm.delta", text="so ")
    await attempt.emit("llm.delta", text="far")
    await attempt.emit("tool.called", tool_id="calc", call_id="c1", params={})
    run = keys.run(attempt.admission.lease.partition, attempt.admission.run)
    await redis.hset(run, "log_bytes", str(1 << 30))  # pyright: ignore[reportGeneralTypeIssues]
    await attempt.emit("tool.delta", tool_id="calc", call_id="c1", delta="x")
    await redis.hset(run, "log_bytes", "0")  # pyright: ignore[reportGeneralTypeIssues]
    await attempt.finish()

    for after in (0, 3):
        gap, *rest = await collect(handle, after)
        assert (gap.kind, gap.sequence, gap.cursor) == ("stream.gap", 5, "5")
        assert (gap.payload["from"], gap.payload["to"]) == (after + 1, 5)
        snapshot = StreamSnapshot.model_validate(gap.payload["snapshot"])
        assert (snapshot.text, snapshot.status, snapshot.attempt) == ("so far", "running", 1)
        assert [(call.call_id, call.tool_id) for call in snapshot.open_tool_calls] == [("c1", "calc")]
        assert [(chunk.kind, chunk.sequence) for chunk in rest] == [("tool.delta", 6), ("run.finished", 7)]


async def test_a_large_payload_and_a_large_result_come_whole_live_and_from_the_log(
    client: AsyncClient, redis: Redis
) -> None:
    handle = await client.submit(hello())
    live = asyncio.create_task(collect(handle))
    attempt = await begin(redis, handle.run_id)
    large = "x" * (INLINE_BYTES + 1)
    await attempt.emit_stored("tool.succeeded", call_id="c1", tool_id="t", result=large)
    await attempt.finish_stored(final_output=large)

    for chunks in (await live, await collect(handle)):
        assert [chunk.sequence for chunk in chunks] == [1, 2, 3, 4]
        assert chunks[2].payload == {"call_id": "c1", "tool_id": "t", "result": large}
        assert chunks[3].payload == {"stop_reason": "completed"}
        assert chunks[3].result is not None
        assert chunks[3].result.final_output == large
    partition = attempt.admission.lease.partition
    log: Any = await redis.xrange(keys.log(partition, attempt.admission.run))
    assert sum(len(fields["f"]) for _, fields in log) < 3000, "stored once, and not in the log"


async def test_child_runs_come_with_their_parent_each_in_its_order_and_the_parents_end_is_last(
    client: AsyncClient, redis: Redis
) -> None:
    # Given a parent with a child, and a grandchild that nobody announces: pub/sub may lose
    parent = await client.submit(hello())
    mother = await begin(redis, parent.run_id)
    seen: list[RunStreamChunk] = []

    async def read(after: str | int = 0, stop_at: str = "") -> None:
        async with aclosing(parent.stream(after, children=True)) as chunks:
            async for chunk in chunks:
                seen.append(chunk)
                if chunk.payload.get("text") == stop_at:
                    return

    reading = asyncio.create_task(read(stop_at="leave"))
    child = await begin(redis, (await client.submit(hello("s2", run_id="child", parent_run_id=parent.run_id))).run_id)
    await child.emit("llm.delta", text="leave")
    async with asyncio.timeout(5):
        await reading

    # When the reader rejoins with its cursor, and the family goes on and ends
    assert seen[-1].cursor == "2;child=3"
    rejoined = asyncio.create_task(read(seen[-1].cursor))
    grandchild = await begin(
        redis, (await client.submit(hello("s3", run_id="grandchild", parent_run_id="child"))).run_id
    )
    await grandchild.emit("llm.delta", text="deep")
    await child.finish()
    late = await begin(redis, (await client.submit(hello("s4", run_id="late", parent_run_id=parent.run_id))).run_id)
    await late.emit("llm.delta", text="goes on")
    await mother.finish()
    async with asyncio.timeout(5):
        await rejoined

    # Then nothing is missing or doubled
    by_run: dict[str, list[int]] = {}
    for chunk in seen:
        by_run.setdefault(chunk.run_id, []).append(chunk.sequence)
    assert by_run == {
        parent.run_id: [1, 2, 3],
        "child": [1, 2, 3, 4],
        "grandchild": [1, 2, 3],
        "late": [1, 2, 3],
    }
    assert (seen[-1].run_id, seen[-1].kind) == (parent.run_id, "run.finished")
    assert await collect(parent, seen[-1].cursor, children=True) == []
    assert {chunk.run_id for chunk in await collect(parent)} == {parent.run_id}


@pytest.mark.parametrize("cursor", [-1, "", "1.5", "x", "1;child", "1;child=", "1;a b=2", "9" * 30, "²"])
async def test_a_cursor_that_no_chunk_had_is_refused(client: AsyncClient, cursor: int | str) -> None:
    handle = await client.submit(hello())
    with pytest.raises(InvalidInputError, match=r"after|run id"):
        await collect(handle, cursor)


async def test_readers_share_their_reads_and_one_that_fails_fails_alone(client: AsyncClient, redis: Redis) -> None:
    handles = [await client.submit(hello(f"s{number}")) for number in range(20)]
    spoilt = await client.submit(hello("spoilt"))
    partition = (await spoilt.get()).partition
    await redis.set(keys.log(partition, spoilt.run_id), "no stream")  # pyright: ignore[reportArgumentType]
    for handle in handles:
        await handle.cancel()
    await asyncio.gather(*(collect(handle) for handle in handles[:2]))
    before = await calls(redis)

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(collect(handle) for handle in handles for _ in range(5)), collect(spoilt), return_exceptions=True
        )

    failed = outcomes.pop()
    assert isinstance(failed, RunlaneError)
    assert "Redis refused XRANGE" in str(failed)
    assert all(not isinstance(chunks, BaseException) and chunks[-1].sequence == 2 for chunks in outcomes)
    assert await calls(redis) - before <= 3 * len(handles), "100 readers of 20 runs read each log about once"


async def calls(redis: Redis) -> int:
    stats: dict[str, Any] = await redis.info("commandstats")
    return stats.get("cmdstat_xrange", {"calls": 0})["calls"]


async def test_a_child_that_was_not_announced_and_what_waits_for_the_reader_are_not_lost(
    client: AsyncClient, redis: Redis
) -> None:
    # Given a parent whose child nobody hears of, and a reader that takes nothing
    parent = await client.submit(hello())
    mother = await begin(redis, parent.run_id)
    seen: list[RunStreamChunk] = []
    async with aclosing(parent.stream(children=True)) as chunks:
        seen += [await anext(chunks) for _ in range(mother.sequence)]
        child = await begin(redis, (await client.submit(hello("s2", run_id="unheard"))).run_id)
        partition = mother.admission.lease.partition
        call: Any = redis.sadd(keys.children(partition, mother.admission.run), "unheard")
        await call

        # Then it is found after a silence
        async with asyncio.timeout(5):
            seen.append(await anext(chunks))
        assert (seen[-1].run_id, seen[-1].kind) == ("unheard", "run.queued")

        # When both write while the reader is busy, and the parent ends
        for number in range(30):
            await child.emit("llm.delta", text=str(number))
            await mother.emit("llm.delta", text=str(number))
        await mother.finish()
        async with asyncio.timeout(10):
            seen += [chunk async for chunk in chunks]

    said = [(chunk.run_id, chunk.sequence) for chunk in seen]
    assert sorted(said) == sorted(
        [*((parent.run_id, number) for number in range(1, 34)), *(("unheard", number) for number in range(1, 33))]
    )
    assert seen[-1].run_id == parent.run_id


async def test_a_child_is_announced_and_shown_at_once(client: AsyncClient, redis: Redis) -> None:
    parent = await client.submit(hello())
    await begin(redis, parent.run_id)
    async with aclosing(parent.stream(children=True)) as chunks:
        assert [(await anext(chunks)).kind for _ in range(2)] == ["run.queued", "run.started"]
        for number in range(3):
            await client.submit(hello(f"s{number}", run_id=f"child{number}", parent_run_id=parent.run_id))
            async with asyncio.timeout(SILENCE_S * 0.75):
                assert (await anext(chunks)).run_id == f"child{number}"


async def test_a_family_that_has_ended_is_shown_whole(client: AsyncClient) -> None:
    parent = await client.submit(hello())
    for number, of in enumerate([parent.run_id, "child0", "child1"]):
        await client.submit(hello(f"s{number}", run_id=f"child{number}", parent_run_id=of))
    await parent.cancel()
    chunks = await collect(parent, children=True)
    assert {chunk.run_id for chunk in chunks} == {parent.run_id, "child0", "child1", "child2"}
    assert len(chunks) == 8
    assert (chunks[-1].run_id, chunks[-1].kind) == (parent.run_id, "run.finished")


async def test_a_family_is_shown_up_to_a_hundred_children(client: AsyncClient, redis: Redis) -> None:
    parent = await client.submit(hello())
    mother = await begin(redis, parent.run_id)
    await client.submit_many([hello(run_id=f"c{number}", parent_run_id=parent.run_id) for number in range(120)])
    await mother.finish()
    chunks = await collect(parent, children=True)
    assert len({chunk.run_id for chunk in chunks}) == CHILDREN_SHOWN + 1
    assert chunks[-1].run_id == parent.run_id


def test_a_reader_that_lags_reads_the_log_instead_of_filling_memory() -> None:
    subscription = Subscription()
    large = Message("c", "x" * 100_000)
    for _ in range(BUFFER_CHARACTERS // 100_000 + 1):
        subscription.offer(large)
    subscription.offer(large)
    assert asyncio.run(subscription.receive(0)) is Signal.MISSED

    for _ in range(200):  # what was taken makes room
        subscription.offer(large)
        assert asyncio.run(subscription.receive(0)) is large


async def test_tenants_share_connections_and_nothing_else(client: AsyncClient, redis: Redis) -> None:
    acme = client.with_tenant("acme")
    mine, theirs = await client.submit(hello(run_id="same")), await acme.submit(hello(run_id="same"))
    await (await begin(redis, "acme/same")).finish(final_output="theirs")

    assert (await theirs.result()).final_output == "theirs"
    assert (await mine.get()).state == "queued"
    assert (client.tenant, acme.tenant) == ("default", "acme")
    with pytest.raises(InvalidInputError, match="tenant"):
        client.with_tenant("no/slash")


async def test_a_session_can_be_read_and_forgotten_when_nothing_of_it_runs(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello("talk"))
    with pytest.raises(SessionError, match="unfinished run"):
        await client.delete_session("talk")
    attempt = await begin(redis, handle.run_id)
    await attempt.say("one", "two", "three")
    await attempt.finish()

    assert [message["content"] for message in await client.messages("talk")] == ["one", "two", "three"]
    assert [message["content"] for message in await client.messages("talk", after=1, limit=1)] == ["two"]
    await client.delete_session("talk")
    assert await client.messages("talk") == []
    with pytest.raises(SessionNotFound, match="talk"):
        await client.session("talk")
    with pytest.raises(InvalidInputError, match="limit"):
        await client.messages("talk", limit=0)


def test_an_idempotency_key_is_a_run_id_of_its_tenant() -> None:
    assert idempotent_run_id("a", "key") == idempotent_run_id("a", "key")
    assert len({idempotent_run_id(tenant, key) for tenant, key in [("a", "key"), ("b", "key"), ("a", "k")]}) == 3
