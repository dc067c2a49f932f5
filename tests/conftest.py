"""Fixtures that every kind of test may use. A test that names ``redis_url`` runs on a real, private redis-server."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import connect, connect_sync

# A shell starts what runs in the background with SIGINT ignored, and children inherit that: tests send Ctrl-C to them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however slow the machine; `pytest --hypothesis-profile=explore` looks at others.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """URL of an empty database."""
    client = connect_sync(redis_server.url)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()
