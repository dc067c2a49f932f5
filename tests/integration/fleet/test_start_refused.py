"""A worker refuses a store that it would harm, or that would lose runs, and says why and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from producer.fleet import Fleet as Operator
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store import keys
from runtime_core.store.connection import connect_sync
from tests.integration.fleet.conftest import AGENTS, Fleet, request, wait_until


@pytest.fixture
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.mark.parametrize(
    ("command", "why", "fix"),
    [
        ("CONFIG SET maxmemory-policy volatile-lru", "its maxmemory-policy is volatile-lru", "noeviction"),
        (f"HSET {keys.META} version 9 partitions 8", "the store has protocol version 9", "the same release"),
        (
            f"HSET {keys.META} version {keys.PROTOCOL_VERSION} partitions 3",
            "the store has 3 partitions",
            "set RUNLANE_PARTITIONS=3",
        ),
    ],
)
async def test_a_worker_refuses_to_start_and_says_why(
    fleet: Fleet, redis_url: str, command: str, why: str, fix: str
) -> None:
    with connect_sync(redis_url) as console:
        console.execute_command(*command.split())
    (worker,) = await fleet.start(1)
    await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=30)
    assert worker.exit_code == 2
    log = worker.log.read_text()
    assert why in log
    assert fix in log
    assert "Traceback" not in log


async def test_a_worker_without_an_agents_file_needs_a_fleet_that_has_one(fleet: Fleet) -> None:
    (lost,) = await fleet.start(1, RUNLANE_CONFIG="")
    await wait_until(lambda: lost.exit_code is not None, "the worker has ended", seconds=30)
    assert lost.exit_code == 2
    assert "the fleet has no config yet" in lost.log.read_text()
    assert "runlane config push --offline" in lost.log.read_text()

    async with Operator(fleet.redis_url) as operator:
        await operator.reload({"agents": AGENTS[:1]}, offline=True)
    fleet.workers.remove(lost)
    await fleet.start(2, RUNLANE_CONFIG="")
    assert await fleet.client.run(request("echo hi")) == "hi"

    (other,) = await fleet.start(1)
    await fleet.ready()
    log = other.log.read_text()
    assert "agents.yaml differs from the fleet's config version 1, which is used" in log
