"""The client against a real Redis; the worker's side is driven by hand through the real scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from producer.client import SUBMIT_BATCH, AsyncClient
from producer.handle import RunHandle
from producer.subscriptions import Subscriptions
from runtime_core.contracts.frame import Frame, encode_frame
from runtime_core.contracts.run import ErrorDetails, RunRequest, RunState, StopReason
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import (
    InvalidInputError,
    RunConflict,
    RunFailedError,
    RunlaneError,
    RunNotFound,
)
from runtime_core.ids import session_key
from runtime_core.store import keys
from runtime_core.store.connection import connect
from runtime_core.store.runs import CancelOutcome
from tests.integration.attempt_by_hand import AttemptByHand

PARTITIONS = 64


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def redis(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    redis = connect(server.url)
    await redis.flushall()
    yield redis
    await redis.aclose()


@pytest.fixture
async def client(server: EmbeddedRedis, redis: Redis) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


def hello(session_id: str = "s1", **fields: Any) -> RunRequest:
    return RunRequest(agent_id="assistant", session_id=session_id, input_text="hello", **fields)


async def collect(handle: RunHandle, after: int = 0) -> list[RunStreamChunk]:
    return [chunk async for chunk in handle.stream(after=after)]


def sequences(chunks: list[RunStreamChunk]) -> list[int]:
    return [chunk.sequence for chunk in chunks]


async def begin(redis: Redis, run: str) -> AttemptByHand:
    return await AttemptByHand.begin(redis, run, PARTITIONS)


async def test_a_run_is_streamed_live_and_its_result_returned(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    streaming = asyncio.create_task(collect(handle))
    waiting = asyncio.create_task(handle.result(timeout=10))
    attempt = await begin(redis, handle.run_id)
    await attempt.emit("usage.updated", logged=False)
    await attempt.emit("llm.delta", text="hi")
    await attempt.finish(final_output="hi")

    chunks = await streaming
    assert [chunk.kind for chunk in chunks] == ["run.queued", "run.started", "llm.delta", "run.finished"]
    assert sequences(chunks) == [1, 2, 3, 4]
    assert chunks[2].payload == {"text": "hi"}
    assert chunks[-1].payload == {"stop_reason": "completed"}
    assert chunks[-1].result is not None
    assert chunks[-1].result == await waiting
    assert (await handle.result()).final_output == "hi"
    record = await handle.get()
    assert (record.state, record.status, record.sequence) == (RunState.FINISHED, StopReason.COMPLETED, 4)


async def test_submit_takes_one_round_trip_after_first_use(client: AsyncClient, redis: Redis) -> None:
    await client.submit(hello())

    async def scripts_called() -> int:
        stats: dict[str, Any] = await redis.info("commandstats")
        return sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)

    before = await scripts_called()
    await client.submit(hello("s2"))
    assert await scripts_called() == before + 1


async def test_the_same_run_id_is_the_same_run_and_another_body_is_a_conflict(client: AsyncClient) -> None:
    request = hello(run_id="mine")
    assert (await client.submit(request)).created is True
    assert (await client.submit(request)).created is False
    with pytest.raises(RunConflict, match="mine"):
        await client.submit(hello("another session", run_id="mine"))


async def test_submit_many_has_one_outcome_per_request(client: AsyncClient) -> None:
    await client.submit(hello(run_id="taken"))
    first, second, third = await client.submit_many(
        [hello(run_id="one"), hello("other", run_id="taken"), hello(deps=object())]
    )
    assert isinstance(first, RunHandle)
    assert first.run_id == "one"
    assert isinstance(second, RunConflict)
    assert isinstance(third, InvalidInputError)


async def test_submit_many_keeps_the_order_of_a_session_over_its_batches(client: AsyncClient, redis: Redis) -> None:
    run_ids = [f"run-{number}" for number in range(2 * SUBMIT_BATCH + 10)]
    handles = await client.submit_many([hello(run_id=run_id) for run_id in run_ids])
    first = handles[0]
    assert isinstance(first, RunHandle)
    assert first.partition is not None
    mailbox: Any = redis.lrange(keys.mailbox(first.partition, session_key("default", "s1")), 0, -1)
    assert await mailbox == run_ids
    assert [handle.run_id for handle in handles if isinstance(handle, RunHandle)] == run_ids


async def test_a_reader_rejoins_behind_the_chunk_it_holds(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    for word in ("a", "b", "c"):
        await attempt.emit("llm.delta", text=word)
    async with aclosing(client.stream(handle.run_id)) as chunks:
        held = [(await anext(chunks)).sequence, (await anext(chunks)).sequence]
    rejoined = asyncio.create_task(collect(client.handle(handle.run_id), after=held[-1]))
    await attempt.finish()
    assert held + sequences(await rejoined) == [1, 2, 3, 4, 5, 6]


async def test_a_reader_that_holds_the_terminal_chunk_gets_nothing_more(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    await (await begin(redis, handle.run_id)).finish()
    assert await collect(handle, after=3) == []
    with pytest.raises(InvalidInputError, match="ended with chunk 3"):
        await collect(handle, after=9)


async def test_what_the_log_dropped_is_a_gap_chunk(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    for _ in range(3):
        await attempt.emit("llm.delta", text="x")
    await attempt.finish()
    await redis.xtrim(keys.log(attempt.admission.lease.partition, attempt.admission.run), maxlen=2, approximate=False)
    chunks = await collect(handle, after=1)
    assert [(chunk.kind, chunk.sequence) for chunk in chunks] == [
        ("stream.gap", 4),
        ("llm.delta", 5),
        ("run.finished", 6),
    ]
    assert chunks[0].payload == {"from": 2, "to": 4, "snapshot": None}


async def test_a_run_whose_log_is_gone_still_ends_with_its_result(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    await attempt.finish(final_output="kept")
    await redis.delete(keys.log(attempt.admission.lease.partition, attempt.admission.run))
    gap, end = await collect(handle)
    assert (gap.kind, gap.payload) == ("stream.gap", {"from": 1, "to": 2, "snapshot": None})
    assert end.result is not None
    assert end.result.final_output == "kept"


async def test_a_frame_that_pub_sub_lost_is_read_from_the_log(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    async with aclosing(client.stream(handle.run_id)) as chunks:
        assert [(await anext(chunks)).sequence for _ in range(2)] == [1, 2]
        # Given a frame that is in the log and was never published, then one that was
        lost = attempt.frame("llm.delta", text="lost")
        await _append_unpublished(redis, attempt, lost)
        await attempt.emit("llm.delta", text="live")
        assert [(await anext(chunks)).payload["text"] for _ in range(2)] == ["lost", "live"]


async def test_a_lost_last_frame_is_found_after_a_silence(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    async with aclosing(client.stream(handle.run_id)) as chunks:
        assert [(await anext(chunks)).sequence for _ in range(2)] == [1, 2]
        await _append_unpublished(redis, attempt, attempt.frame("llm.delta", text="lost"))
        async with asyncio.timeout(5):
            assert (await anext(chunks)).payload == {"text": "lost"}


async def test_streams_survive_the_loss_of_every_connection(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    async with aclosing(client.stream(handle.run_id)) as chunks:
        assert [(await anext(chunks)).sequence for _ in range(2)] == [1, 2]
        for number in range(5):
            await redis.client_kill_filter(_type="pubsub")
            await redis.client_kill_filter(_type="normal", skipme=True)
            await attempt.emit("llm.delta", text=str(number))
            assert (await anext(chunks)).payload == {"text": str(number)}
        await attempt.finish()
        assert (await anext(chunks)).kind == "run.finished"


async def test_a_stream_and_a_result_survive_a_restart_of_redis(tmp_path: Path) -> None:
    with EmbeddedRedis(directory=tmp_path) as server:
        redis = connect(server.url)
        async with AsyncClient(server.url) as client:
            handle = await client.submit(hello())
            attempt = await begin(redis, handle.run_id)
            result = asyncio.create_task(handle.result(timeout=30))
            async with aclosing(handle.stream()) as chunks:
                assert [(await anext(chunks)).sequence for _ in range(2)] == [1, 2]
                following = asyncio.ensure_future(anext(chunks))
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                await attempt.finish(final_output="still here")
                assert (await following).kind == "run.finished"
            assert (await result).final_output == "still here"
        await redis.aclose()


async def test_many_waiting_results_share_few_connections(client: AsyncClient, redis: Redis) -> None:
    handles = await client.submit_many([hello(f"s{number}") for number in range(300)])
    waiting = [asyncio.create_task(handle.result()) for handle in handles if isinstance(handle, RunHandle)]
    await asyncio.gather(*(client.cancel(handle.run_id) for handle in handles if isinstance(handle, RunHandle)))
    assert {result.stop_reason for result in await asyncio.gather(*waiting)} == {StopReason.CANCELLED}
    assert len(await redis.client_list()) < 50


async def test_a_slow_reader_loses_nothing_and_stalls_nobody(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    async with aclosing(client.stream(handle.run_id)) as slow:
        await anext(slow)
        quick = asyncio.create_task(collect(handle))
        for _ in range(15):
            await attempt.append(*(attempt.frame("llm.delta", text="x") for _ in range(100)))
        await attempt.finish()
        assert sequences(await quick) == list(range(1, 1504))
        assert [chunk.sequence async for chunk in slow] == list(range(2, 1504))


async def test_readers_of_a_process_share_one_connection(server: EmbeddedRedis, redis: Redis) -> None:
    async with AsyncClient(server.url) as one, AsyncClient(server.url) as two:
        handle = await one.submit(hello())
        readers = [one.stream(handle.run_id), one.stream(handle.run_id), two.stream(handle.run_id)]
        for reader in readers:
            await anext(reader)
        assert len(await redis.client_list(_type="pubsub")) == 1
        for reader in readers:
            await reader.aclose()
        attempt = await begin(redis, handle.run_id)
        streaming = asyncio.create_task(collect(handle))
        await attempt.finish()
        assert sequences(await streaming) == [1, 2, 3]
    assert Subscriptions._shared[asyncio.get_running_loop()] == {}


async def test_run_returns_the_output_and_raises_the_code_of_a_failure(client: AsyncClient, redis: Redis) -> None:
    running = asyncio.create_task(client.run(agent_id="a", session_id="s", input_text="x", run_id="good"))
    await _submitted(client, "good")
    attempt = await begin(redis, "good")
    await attempt.finish(final_output={"answer": 42})
    assert await running == {"answer": 42}

    failing = asyncio.create_task(client.run(hello("another", run_id="bad")))
    await _submitted(client, "bad")
    details = ErrorDetails(code="tool.timeout", message="too slow", hint="wait longer")
    await (await begin(redis, "bad")).finish(StopReason.FAILED, error_details=details)
    with pytest.raises(RunFailedError, match="too slow") as caught:
        await failing
    assert (caught.value.code, caught.value.details, caught.value.hint) == ("tool.timeout", details, "wait longer")
    assert (await client.result("bad")).stop_reason is StopReason.FAILED


async def test_result_says_that_the_run_goes_on_when_the_time_is_up(client: AsyncClient) -> None:
    handle = await client.submit(hello(run_id="slow"))
    with pytest.raises(TimeoutError, match=r"run slow has not finished within 0\.05 s; it goes on"):
        await handle.result(timeout=0.05)
    assert (await handle.get()).state is RunState.QUEUED


async def test_a_queued_run_is_cancelled_at_once_and_its_stream_ends(client: AsyncClient) -> None:
    handle = await client.submit(hello())
    streaming = asyncio.create_task(collect(handle))
    assert await handle.cancel() is CancelOutcome.CANCELLED
    chunks = await streaming
    assert chunks[-1].payload == {"stop_reason": "cancelled"}
    assert (await handle.result()).stop_reason is StopReason.CANCELLED
    assert await handle.cancel() is CancelOutcome.FINISHED


@pytest.mark.parametrize(("on_disconnect", "cancelled"), [("continue", False), ("cancel", True)])
async def test_leaving_run_stream_leaves_or_cancels_the_run(
    client: AsyncClient, on_disconnect: Any, cancelled: bool
) -> None:
    async with aclosing(client.run_stream(hello(run_id="left"), on_disconnect=on_disconnect)) as chunks:
        assert (await anext(chunks)).kind == "run.queued"
    record = await client.get("left")
    assert (record.status is StopReason.CANCELLED) is cancelled


async def test_events_of_a_run_hold_what_is_no_chunk_and_end_with_it(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    async with aclosing(client.events(handle.run_id)) as events:
        assert [(await anext(events)).event for _ in range(2)] == ["run.queued", "run.started"]
        await attempt.emit("usage.updated", logged=False, total_tokens=3)
        await attempt.finish()
        assert [frame.event async for frame in events] == ["usage.updated", "run.finished"]


async def test_events_of_all_runs_are_those_of_the_tenant(server: EmbeddedRedis, redis: Redis) -> None:
    async with (
        AsyncClient(server.url, tenant="acme") as acme,
        AsyncClient(server.url) as other,
        aclosing(acme.events("*")) as events,
    ):
        first = asyncio.ensure_future(anext(events))
        await _subscribed(redis)
        await other.submit(hello(run_id="theirs"))
        await acme.submit(hello(run_id="ours"))
        assert (await first).ids.run_id == "ours"


async def test_tenants_do_not_see_each_others_runs(server: EmbeddedRedis, client: AsyncClient) -> None:
    await client.submit(hello(run_id="shared"))
    async with AsyncClient(server.url, tenant="acme") as acme:
        with pytest.raises(RunNotFound):
            await acme.get("shared")
        with pytest.raises(RunNotFound):
            await collect(acme.handle("shared"))


async def test_a_closed_client_ends_its_own_readers_and_no_others(server: EmbeddedRedis, client: AsyncClient) -> None:
    closing = AsyncClient(server.url)
    handle = await closing.submit(hello())
    stream = handle.stream()
    assert (await anext(stream)).kind == "run.queued"
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(anext(stream)),
        asyncio.ensure_future(handle.result()),
        asyncio.ensure_future(anext(closing.events("*"))),
    ]
    other = asyncio.create_task(collect(client.handle(handle.run_id)))
    async with connect(server.url) as redis:
        await _subscribed(redis)
    await closing.aclose()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert ["the client is closed" in str(outcome) for outcome in outcomes] == [True] * 3
    with pytest.raises(RunlaneError, match="the client is closed"):
        await closing.submit(hello())
    await client.cancel(handle.run_id)
    assert [chunk.kind for chunk in await other] == ["run.queued", "run.finished"]


async def _append_unpublished(redis: Redis, attempt: AttemptByHand, frame: Frame) -> None:
    """What append.lua leaves behind when its publish reaches nobody."""
    admission = attempt.admission
    partition, run = admission.lease.partition, admission.run
    await redis.xadd(keys.log(partition, run), {"f": encode_frame(frame)}, id=f"{frame.sequence}-0")
    await redis.hset(keys.run(partition, run), "sequence", str(frame.sequence))


async def _submitted(client: AsyncClient, run_id: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await client.get(run_id)
            except RunNotFound:
                continue
            return


async def _subscribed(redis: Redis) -> None:
    async with asyncio.timeout(5):
        while not await redis.pubsub_numpat():
            pass
