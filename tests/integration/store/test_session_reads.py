"""Reads of a session while Redis is away: an attempt waits, anybody else is told."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime_core.contracts.context import RunScope, current_scope
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import SessionKey
from runtime_core.plugins.builtin.session.redis import RedisSession
from runtime_core.store.connection import connect
from runtime_core.store.sessions import SessionStore
from tests.integration.fleet.conftest import wait_until

SESSION = SessionKey("default/s")


class NoWrites:
    async def staged(self) -> list[list[str]]:
        return []

    async def stage(self, entries: list[list[str]]) -> None: ...


async def test_an_attempt_waits_with_its_reads_until_redis_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedRedis() as server:
        redis = connect(server.url)
        sessions = SessionStore(redis, 1)
        server.stop()
        with pytest.raises(RedisConnectionError):
            await sessions.messages(SESSION)

        current_scope.set(RunScope(writer=NoWrites()))
        reads = [asyncio.create_task(read(SESSION)) for read in (sessions.messages, sessions.artifacts, sessions.state)]
        await wait_until(lambda: caplog.text.count("cannot be read, trying again") >= 3, "all three wait")
        server.start()

        assert await asyncio.gather(*reads) == [[], [], {}]
        await redis.aclose()


async def test_the_first_session_of_a_process_waits_for_redis_too(caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedRedis() as server:
        sessions = RedisSession({"redis_url": server.url})
        server.stop()
        current_scope.set(RunScope(writer=NoWrites()))
        read = asyncio.create_task(sessions.load_messages("s"))
        await wait_until(lambda: "cannot be read, trying again" in caplog.text or read.done(), "it waits")
        assert not read.done(), read
        server.start()

        assert await read == []
        await sessions.close()
