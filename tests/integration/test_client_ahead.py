"""What a client that submits and then waits or follows does not have to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from producer.client import AsyncClient
from runtime_core.contracts.run import RunRequest
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import ScopedRunId
from runtime_core.store.connection import connect
from tests.integration.attempt_by_hand import AttemptByHand

PARTITIONS = 64


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """One of its own: the commands that it gets are counted."""
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


async def begin(redis: Redis, run: str) -> AttemptByHand:
    return await AttemptByHand.begin(redis, run, PARTITIONS)


async def test_who_submits_and_follows_reads_nothing_that_comes_live(client: AsyncClient, redis: Redis) -> None:
    await client.check()
    await redis.config_resetstat()
    kinds: list[str] = []
    async with aclosing(client.run_stream(hello(run_id="live"))) as chunks:
        async for chunk in chunks:
            kinds.append(chunk.kind)
            if chunk.kind == "run.queued":
                attempt = await begin(redis, "live")
                await attempt.emit("llm.delta", text="hi")
                await attempt.finish()
    commands: Any = await redis.info("commandstats")
    assert kinds == ["run.queued", "run.started", "llm.delta", "run.finished"]
    assert "cmdstat_xrange" not in commands


async def test_a_run_that_had_been_submitted_is_followed_from_its_start(client: AsyncClient, redis: Redis) -> None:
    await client.submit(hello(run_id="known"))
    attempt = await begin(redis, "known")
    async with aclosing(client.run_stream(hello(run_id="known"))) as chunks, asyncio.timeout(1):
        assert [(await anext(chunks)).sequence for _ in range(2)] == [1, 2]
    await attempt.finish(final_output="done")
    assert await client.run(hello(run_id="known")) == "done"


async def test_a_reader_that_subscribed_before_the_submit_and_hears_nothing_reads_the_log(client: AsyncClient) -> None:
    async with client._store.subscriptions.join("nothing", confirm_within=5, ahead=True) as deaf:
        handle = await client.submit(hello())
        assert handle.partition is not None
        frames = client._store.relay.follow(handle.partition, ScopedRunId(handle.run_id), ahead=deaf)
        async with asyncio.timeout(1), aclosing(frames):
            assert [frame.event for frame in await anext(frames)] == ["run.queued"]


async def test_a_handle_from_submit_reads_a_finished_result_with_one_command(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    await (await begin(redis, handle.run_id)).finish(final_output="done")
    await redis.config_resetstat()
    assert (await handle.result()).final_output == "done"
    commands: Any = await redis.info("commandstats")
    assert {
        name for name in commands if name not in ("cmdstat_info", "cmdstat_config|resetstat", "cmdstat_config")
    } == {"cmdstat_hmget"}
    assert commands["cmdstat_hmget"]["calls"] == 1


async def test_a_result_that_is_waited_for_reads_no_log(client: AsyncClient, redis: Redis) -> None:
    """The record before it subscribes and after; then the end comes live."""
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    await redis.config_resetstat()
    waiting = asyncio.create_task(handle.result())
    async with asyncio.timeout(5):
        while (await redis.pubsub_numsub(f"rl:{{p{handle.partition:04d}}}:events:{handle.run_id}"))[0][1] == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await attempt.finish(final_output="done")
    assert (await waiting).final_output == "done"
    commands: Any = await redis.info("commandstats")
    assert "cmdstat_xrange" not in commands or commands["cmdstat_xrange"]["calls"] == 0


@pytest.mark.parametrize("ahead", [False, True], ids=["result", "run"])
async def test_a_large_result_that_comes_while_it_is_waited_for_is_read_from_the_record(
    client: AsyncClient, redis: Redis, ahead: bool
) -> None:
    large = "x" * 100_000
    request = hello(run_id="large")
    waiting = asyncio.create_task(client.run(request) if ahead else _output(client, request))
    async with asyncio.timeout(5):
        while not await redis.exists("rl:id:large"):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await (await begin(redis, "large")).finish_stored(final_output=large)
    assert await waiting == large


async def test_an_end_that_pub_sub_lost_is_found_in_the_record(client: AsyncClient, redis: Redis) -> None:
    handle = await client.submit(hello())
    attempt = await begin(redis, handle.run_id)
    assert handle.partition is not None
    async with client._store.subscriptions.join("nothing", confirm_within=5, ahead=True) as deaf:
        run = ScopedRunId(handle.run_id)
        waiting = asyncio.create_task(client._store.relay.result(handle.partition, run, ahead=deaf))
        await attempt.finish(final_output="done")
        async with asyncio.timeout(5):
            result = await waiting
    assert result is not None
    assert result.final_output == "done"


async def _output(client: AsyncClient, request: RunRequest) -> Any:
    return (await (await client.submit(request)).result()).final_output
