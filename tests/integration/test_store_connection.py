"""The connections of connect(): what redis-py does otherwise."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import connect, connect_sync


async def test_a_cancellation_is_never_lost_in_a_command(redis_url: str) -> None:
    """Each pass cancels one turn of the event loop later, through connecting, writing and reading."""
    cancelled = 0
    for turns in range(400):
        redis = connect(redis_url)
        task = asyncio.ensure_future(redis.set("key", "x" * 100_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait([task], timeout=5)
            assert task.cancelled(), f"lost after {turns} turns"
            cancelled += 1
        await redis.aclose()
    assert cancelled > 3


async def test_a_unix_socket_is_a_url_too(unix_socket_url: str) -> None:
    redis = connect(unix_socket_url)
    assert await redis.set("key", "value")
    await redis.aclose()
    blocking = connect_sync(unix_socket_url)
    assert blocking.get("key") == "value"
    blocking.close()


async def test_half_a_surrogate_pair_is_written_as_a_question_mark(redis_url: str) -> None:
    redis = connect(redis_url)
    await redis.set("key", "a\ud800b")
    assert await redis.get("key") == "a?b"
    await redis.aclose()


async def test_a_write_that_redis_does_not_take_ends() -> None:
    with EmbeddedRedis() as server:
        redis = connect(server.url)
        redis.connection_pool.connection_kwargs |= {"socket_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}
        await redis.ping()  # pyright: ignore[reportGeneralTypeIssues]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            writing = asyncio.ensure_future(redis.set("key", "x" * 50_000_000))
            await asyncio.wait([writing], timeout=5)
            assert writing.done()
            with pytest.raises(RedisTimeoutError, match="writing"):
                await writing
        finally:
            os.kill(server.pid, signal.SIGCONT)
            await redis.aclose()


async def test_a_worker_with_many_runs_may_write_for_all_of_them_at_once(redis_url: str) -> None:
    redis = connect(redis_url)
    replies = await asyncio.gather(*(redis.blpop("nothing", timeout=1) for _ in range(150)), return_exceptions=True)  # pyright: ignore[reportArgumentType]
    assert replies == [None] * 150
    await redis.aclose()
