"""Redis in trouble: a verb of the store works, or raises what RETRYABLE names and says why; nothing is half written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import RETRYABLE, connect, connect_sync, outage_word
from tests.integration.store.world import READS, WRITES, World

#: Commands in the append-only file, and microseconds for each, of a Redis that loads for some seconds.
COMMANDS, COMMAND_US = 10_000, 200

Trouble = Callable[[Any, BlockingRedis, Path], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """It raises at once what connect()'s tries end with."""
    redis = connect(server.url)
    redis.connection_pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
    await redis.flushall()
    yield redis
    await redis.aclose()


@pytest.fixture
def blocking(server: EmbeddedRedis) -> Iterator[BlockingRedis]:
    """Connected already: a Redis in trouble may refuse a new connection."""
    with connect_sync(server.url, timeout=60) as client:
        client.ping()
        yield client


@pytest.fixture
def console(server: EmbeddedRedis) -> Iterator[BlockingRedis]:
    """What makes trouble and ends it; without the PING before a command, which a Redis in trouble refuses."""
    with BlockingRedis.from_url(server.url) as client:
        client.ping()
        yield client


async def content(redis: Any) -> dict[str, Any]:
    """Every key and its value."""
    found: dict[str, Any] = {}
    async for key in redis.scan_iter():
        match await redis.type(key):
            case "hash":
                found[key] = await redis.hgetall(key)
            case "zset":
                found[key] = await redis.zrange(key, 0, -1, withscores=True)
            case "set":
                found[key] = await redis.smembers(key)
            case "list":
                found[key] = await redis.lrange(key, 0, -1)
            case "stream":
                found[key] = await redis.xrange(key)
            case _:
                found[key] = await redis.get(key)
    return found


def shape(found: dict[str, Any]) -> dict[str, Any]:
    """Of every key what does not depend on chance or the time of day: fields, members and lengths."""
    shapes: dict[str, Any] = {}
    for name, value in found.items():
        key = re.sub(":edit:.*", ":edit:*", name)
        shapes[key] = sorted(value) if isinstance(value, dict | set) else len(value)
    return shapes


async def wait_for(redis: Any, word: str) -> None:
    """Until Redis refuses PING with that word."""
    async with asyncio.timeout(20):
        while True:
            try:
                await redis.ping()
            except RedisError as error:
                if outage_word(error) == word:
                    return
            await asyncio.sleep(0.01)


async def run_long(console: BlockingRedis, *command: Any) -> None:
    with contextlib.suppress(RedisError):  # SCRIPT KILL ends it
        await asyncio.to_thread(console.execute_command, *command)


@asynccontextmanager
async def read_only(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    await redis.replicaof("127.0.0.1", 1)
    yield
    await redis.replicaof("no", "one")


@asynccontextmanager
async def without_its_primary(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    await redis.config_set("replica-serve-stale-data", "no")
    async with read_only(redis, console, folder):
        yield
    await redis.config_set("replica-serve-stale-data", "yes")


@asynccontextmanager
async def without_replicas(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    await redis.config_set("min-replicas-to-write", 1)
    yield
    await redis.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def without_a_disk(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    before = (await redis.config_get("dir"))["dir"]
    gone = folder / "gone"
    gone.mkdir()
    await redis.config_set("dir", str(gone))
    gone.rmdir()
    await redis.config_set("save", "900 1")
    await redis.bgsave()
    async with asyncio.timeout(20):
        while (await redis.info("persistence"))["rdb_last_bgsave_status"] == "ok":
            await asyncio.sleep(0.01)
    yield
    await redis.config_set("save", "")
    await redis.config_set("dir", before)


@asynccontextmanager
async def busy(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    await redis.config_set("lua-time-limit", 1)
    other = console.client()  # a connection of its own, made before: a new one is refused
    other.ping()
    script = asyncio.create_task(run_long(other, "EVAL", "while true do end", 0))
    await wait_for(redis, "BUSY")
    try:
        yield
    finally:
        console.script_kill()
        await script


@asynccontextmanager
async def loading(redis: Any, console: BlockingRedis, folder: Path) -> AsyncGenerator[None]:
    await redis.config_set("key-load-delay", COMMAND_US)
    other = console.client()
    load = asyncio.create_task(run_long(other, "DEBUG", "LOADAOF"))
    await wait_for(redis, "LOADING")
    try:
        yield
    finally:
        await load
        console.config_set("key-load-delay", 0)


#: Trouble, and the words by which Redis names it.
TROUBLES: list[tuple[Trouble, set[str]]] = [
    (read_only, {"READONLY"}),
    (without_replicas, {"NOREPLICAS"}),
    (without_a_disk, {"MISCONF"}),
    (without_its_primary, {"MASTERDOWN", "READONLY"}),
    (busy, {"BUSY"}),
    (loading, {"LOADING"}),
]


@pytest.mark.parametrize(("trouble", "words"), TROUBLES, ids=[trouble.__name__ for trouble, _ in TROUBLES])
async def test_what_redis_cannot_serve_is_to_be_tried_again_and_changes_nothing(
    redis: Any, blocking: BlockingRedis, console: BlockingRedis, tmp_path: Path, trouble: Trouble, words: set[str]
) -> None:
    if trouble is loading:  # what makes it take long
        pipeline = redis.pipeline(transaction=False)
        for number in range(COMMANDS):
            pipeline.set("filler", number)
        await pipeline.execute()
    world = await World(redis, blocking).build()
    before = await content(redis)
    verbs = WRITES | READS

    async with trouble(redis, console, tmp_path):
        outcomes = await asyncio.gather(*(verb(world) for verb in verbs.values()), return_exceptions=True)

    assert await content(redis) == before
    refused = {name: error for name, error in zip(verbs, outcomes, strict=True) if isinstance(error, BaseException)}
    for name, error in refused.items():
        # The renewal thread goes on after any error of Redis.
        assert isinstance(error, RedisError if name == "renew" else RETRYABLE), (name, error)
        assert outage_word(error) in words, (name, error)
    assert WRITES.keys() - refused.keys() <= {"sweep"}, "a sweep that finds nothing to ring writes nothing"
    if trouble in (read_only, without_replicas):
        assert not READS.keys() & refused.keys()


@pytest.mark.parametrize("name", WRITES)
async def test_a_verb_that_meets_full_memory_is_done_whole_or_not_at_all(
    redis: Any, blocking: BlockingRedis, name: str
) -> None:
    verb = WRITES[name]
    world = await World(redis, blocking).build()
    before = await content(redis)
    await redis.config_set("maxmemory", 1)
    try:
        await verb(world)
        error = None
    except RETRYABLE as refused:
        error = refused
    finally:
        await redis.config_set("maxmemory", 0)
    if error is not None:
        assert outage_word(error) == "OOM"
        assert await content(redis) == before
    await verb(world)
    in_trouble = shape(await content(redis))

    await redis.flushall()
    world = await World(redis, blocking).build()
    await verb(world)
    await verb(world)
    assert in_trouble == shape(await content(redis))


async def test_scripts_that_redis_forgot_are_sent_again(redis: Any, blocking: BlockingRedis) -> None:
    for verb in WRITES.values():
        await redis.flushall()
        world = await World(redis, blocking).build()
        await redis.script_flush()
        await verb(world)


async def test_nothing_that_was_answered_is_lost_when_redis_dies(
    redis: Any, blocking: BlockingRedis, server: EmbeddedRedis
) -> None:
    world = await World(redis, blocking).build()
    for name in ("submit", "append", "finish", "cancel a queued run", "redrive", "release"):
        await WRITES[name](world)
    before = await content(redis)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start()
    await redis.connection_pool.disconnect()
    assert await content(redis) == before


@pytest.mark.parametrize("name", ["submit", "finish", "cancel a queued run", "release"])
async def test_a_script_whose_end_did_not_reach_the_disk_is_undone_whole(
    redis: Any, blocking: BlockingRedis, server: EmbeddedRedis, name: str
) -> None:
    world = await World(redis, blocking).build()
    before = await content(redis)
    folder = Path((await redis.config_get("dir"))["dir"])
    await WRITES[name](world)
    assert await content(redis) != before
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    log = folder / "appendonly.aof"
    os.truncate(log, log.stat().st_size - 1)
    server.start()
    await redis.connection_pool.disconnect()
    assert await content(redis) == before
