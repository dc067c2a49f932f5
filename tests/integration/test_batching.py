"""The client whose commands travel together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.batching import BATCH_BYTES, BATCH_COMMANDS, BatchingRedis
from runtime_core.store.connection import connect


@pytest.fixture
async def batching(redis_url: str) -> AsyncGenerator[Any]:
    redis = connect(redis_url, batching=True)
    assert isinstance(redis, BatchingRedis)
    await redis.execute_command("FLUSHALL")
    yield redis
    await redis.aclose()


class _RoundTrips:
    """Counts the pipelines of a client."""

    def __init__(self, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        pipeline = redis.pipeline

        def counted(**options: Any) -> Any:
            self.count += 1
            return pipeline(**options)

        monkeypatch.setattr(redis, "pipeline", counted)


async def test_what_gathers_while_a_command_is_under_way_goes_together(
    batching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = _RoundTrips(batching, monkeypatch)

    replies = await asyncio.gather(*(batching.incr("counter") for _ in range(60)))
    assert replies == list(range(1, 61)), "in the order in which they were issued"
    assert trips.count <= 2

    assert await batching.get("counter") == "60"
    assert trips.count <= 3
    pool = batching.connection_pool
    assert (len(pool._available_connections), len(pool._in_use_connections)) == (1, 0)


async def test_a_round_trip_is_bounded_in_commands_and_bytes(batching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = _RoundTrips(batching, monkeypatch)
    await asyncio.gather(*(batching.incr("counter") for _ in range(3 * BATCH_COMMANDS)))
    assert trips.count == 3

    large = "x" * (BATCH_BYTES * 2 // 3)
    await asyncio.gather(*(batching.set(f"large {number}", large) for number in range(3)))
    assert trips.count == 6
    assert [len(value) for value in await batching.mget([f"large {number}" for number in range(3)])] == [len(large)] * 3


async def test_an_error_is_that_of_its_own_command(batching: Any) -> None:
    await batching.set("text", "no list")

    set_, push, get = (
        asyncio.create_task(call)
        for call in (batching.set("other", "1"), batching.lpush("text", "x"), batching.get("text"))
    )

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await push
    assert (await set_, await get) == (True, "no list")


async def test_who_is_cancelled_takes_nobody_along(batching: Any) -> None:
    tasks = [asyncio.create_task(batching.incr("counter")) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[7].cancel()

    replies = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(reply) for reply in replies].count(int) == 8
    assert await batching.get("counter") == "10", "commands that were issued are executed"


async def test_commands_of_a_lost_connection_fail_and_later_ones_find_redis_again() -> None:
    with EmbeddedRedis() as server:
        redis: Any = connect(server.url, batching=True)
        redis.connection_pool.connection_kwargs |= {"socket_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}
        await redis.ping()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            failed = await asyncio.gather(*(redis.incr("counter") for _ in range(5)), return_exceptions=True)
        finally:
            os.kill(server.pid, signal.SIGCONT)

        assert all(isinstance(one, RedisTimeoutError | RedisConnectionError) for one in failed), failed
        assert await redis.set("key", "value")
        await redis.aclose()


async def test_commands_of_a_client_whose_loop_ends_do_not_wait_for_ever() -> None:
    with EmbeddedRedis() as server:
        redis: Any = connect(server.url, batching=True)
        await redis.ping()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(redis.incr("counter")) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert redis._sender is not None
            redis._sender.cancel()
            ended, left = await asyncio.wait(waiting, timeout=2)
        finally:
            os.kill(server.pid, signal.SIGCONT)

        assert not left
        assert [str(one.exception()) for one in ended] == ["the client was stopped"] * 3
        await redis.aclose()
