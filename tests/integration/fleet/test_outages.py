"""Redis goes away and comes back: workers wait for it, serve soon after it, and can be stopped without it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_core.contracts.run import StopReason
from runtime_core.embedded import EmbeddedRedis
from tests.integration.fleet.conftest import Fleet, request, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(directory=tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_url(server: EmbeddedRedis) -> str:
    return server.url


async def test_doorbells_flow_soon_after_a_long_outage(fleet: Fleet, server: EmbeddedRedis) -> None:
    (worker,) = await fleet.start(1)
    await fleet.client.run(request("echo before"))

    server.stop()
    await wait_until(lambda: worker.log.read_text().count("Cannot connect") >= 3, "it has tried three times")
    assert "/100)" not in worker.log.read_text(), "Celery would give up after 100 tries"
    server.start()
    back = time.monotonic()

    assert await fleet.client.run(request("echo after")) == "after"
    assert time.monotonic() - back < 10, "kombu alone would wait up to 30 s"
    assert (await fleet.client.run_detailed(request("echo again"))).metadata["cache_hit"] is True


async def test_an_outage_longer_than_a_lease_counts_no_crash(fleet: Fleet, server: EmbeddedRedis) -> None:
    await fleet.start(2)
    await fleet.ready()
    handles = [await fleet.client.submit(request("wait 11", session=f"s{number}")) for number in range(8)]
    await wait_until(lambda: len(fleet.journal()) == 8, "the runs execute")

    server.stop()
    gone = time.monotonic()
    await wait_until(lambda: time.monotonic() - gone > 8, "longer than a lease lives", seconds=10)
    server.start()

    for handle in handles:
        result = await handle.result(timeout=30)
        record = await handle.get()
        assert (result.stop_reason, record.attempt) == (StopReason.COMPLETED, 1)
        assert (record.crashes, record.interruptions, record.handovers) == (0, 0, 0)


async def test_a_worker_stops_while_redis_is_away(fleet: Fleet, server: EmbeddedRedis) -> None:
    (worker,) = await fleet.start(1)
    await fleet.client.run(request("echo before"))
    server.stop()
    await wait_until(lambda: "Cannot connect" in worker.log.read_text(), "it has noticed")

    os.kill(worker.pid, signal.SIGTERM)

    await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=10)
    assert worker.exit_code == 0


async def test_a_worker_stops_with_a_run_that_says_something_while_redis_is_away(
    fleet: Fleet, server: EmbeddedRedis
) -> None:
    (worker,) = await fleet.start(1, RUNLANE_DRAIN_GRACE_S="1")
    await fleet.client.submit(request("talk 1000 5"))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")
    server.stop()
    await wait_until(lambda: "trying again" in worker.log.read_text(), "it has said something that Redis did not take")

    os.kill(worker.pid, signal.SIGTERM)

    await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=30)
    assert worker.exit_code == 0


@pytest.mark.slow
async def test_a_worker_stops_while_redis_hangs(fleet: Fleet, server: EmbeddedRedis) -> None:
    (worker,) = await fleet.start(1)
    await fleet.client.run(request("echo before"))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        os.kill(worker.pid, signal.SIGTERM)
        await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=45)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert worker.exit_code == 0


@pytest.mark.parametrize("redis_comes", [True, False])
async def test_a_worker_that_starts_before_redis_waits_for_it(
    fleet: Fleet, server: EmbeddedRedis, redis_comes: bool
) -> None:
    server.stop()
    (worker,) = await fleet.start(1)
    await wait_until(lambda: "does not answer, trying again" in worker.log.read_text(), "it waits", seconds=30)

    if redis_comes:
        server.start()
        assert await fleet.client.run(request("echo hello")) == "hello"
    else:
        os.kill(worker.pid, signal.SIGTERM)
        await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=5)
        assert worker.exit_code == 0
