"""What the client refuses, and in which words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from producer.client import AsyncClient
from runtime_core.contracts.run import RunRequest
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import ConfigError, InvalidInputError, RunlaneError, RunNotFound
from runtime_core.store import keys
from runtime_core.store.connection import connect_sync


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


def hello(session_id: str = "s1", **fields: Any) -> RunRequest:
    return RunRequest(agent_id="assistant", session_id=session_id, input_text="hello", **fields)


async def test_unknown_runs_are_named(client: AsyncClient) -> None:
    for call in (client.get("nope"), client.result("nope"), client.cancel("nope"), anext(client.stream("nope"))):
        with pytest.raises(RunNotFound, match="nope"):
            await call


async def test_bad_requests_are_refused_with_the_field(client: AsyncClient) -> None:
    with pytest.raises(InvalidInputError, match="session_id: Field required"):
        await client.run(agent_id="a", input_text="x")
    with pytest.raises(InvalidInputError, match="deps"):
        await client.run(agent_id="a", session_id="s", input_text="x", deps=object())
    with pytest.raises(InvalidInputError, match="not both"):
        await client.run(hello(), agent_id="b")


async def test_another_number_of_partitions_is_refused(redis_url: str, client: AsyncClient) -> None:
    await client.submit(hello())
    async with AsyncClient(redis_url, partitions=7) as other:
        with pytest.raises(ConfigError, match="64 partitions"):
            await other.submit(hello())


def test_a_client_says_that_it_belongs_to_another_event_loop(redis_url: str) -> None:
    client = AsyncClient(redis_url)
    handle = asyncio.run(client.submit(hello("in the first loop")))
    with pytest.raises(RunlaneError, match="another event loop"):
        asyncio.run(handle.get())
    asyncio.run(client.aclose())


async def test_a_store_of_another_protocol_version_is_refused(redis_url: str, redis: Any) -> None:
    await redis.hset(keys.META, mapping={"version": keys.PROTOCOL_VERSION + 1, "partitions": 64})
    async with AsyncClient(redis_url) as client:
        with pytest.raises(
            ConfigError,
            match=f"protocol version {keys.PROTOCOL_VERSION + 1}, this process speaks {keys.PROTOCOL_VERSION}",
        ) as refused:
            await client.submit(hello())
        assert "the same release of runlane everywhere" in str(refused.value)


async def test_a_store_that_changes_under_an_open_client_is_refused(
    redis_url: str, redis: Any, client: AsyncClient
) -> None:
    await client.submit(hello())
    await redis.hset(keys.META, "partitions", 7)
    with pytest.raises(ConfigError, match="7 partitions"):
        await client.submit(hello())


async def test_a_redis_that_evicts_is_refused_unless_it_hides_its_settings() -> None:
    with EmbeddedRedis() as server, connect_sync(server.url) as console:
        console.config_set("maxmemory-policy", "allkeys-lru")
        async with AsyncClient(server.url) as client:
            with pytest.raises(ConfigError, match="maxmemory-policy is allkeys-lru") as refused:
                await client.submit(hello())
            assert "noeviction" in str(refused.value)
        console.execute_command(*["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info"])
        async with AsyncClient(server.url.replace("://", "://app:secret@")) as client:
            assert (await client.submit(hello())).created


@pytest.mark.parametrize(
    ("command", "word", "advice"),
    [("CONFIG SET maxmemory 1", "OOM", "raise its maxmemory"), ("REPLICAOF 127.0.0.1 1", "READONLY", "the primary")],
)
async def test_a_redis_that_cannot_write_is_told_from_one_that_is_away(command: str, word: str, advice: str) -> None:
    with EmbeddedRedis() as server, connect_sync(server.url) as console:
        async with AsyncClient(server.url) as client:
            await client.submit(hello())
            console.execute_command(*command.split())
            with pytest.raises(RunlaneError, match=f"does not serve now: {word}") as refused:
                await client.submit(hello())
            assert advice in str(refused.value)
            (outcome,) = await client.submit_many([hello()])
            assert word in str(outcome)


async def test_an_absent_redis_is_named_without_its_password() -> None:
    async with AsyncClient("redis://user:secret@127.0.0.1:1/0") as client:
        with pytest.raises(RunlaneError, match=r"\*\*\*@127\.0\.0\.1:1") as caught:
            await client.submit(hello())
        assert "secret" not in str(caught.value)
