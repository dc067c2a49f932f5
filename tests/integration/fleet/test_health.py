"""The probes of a real worker, while parts of it and around it do not work."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from producer.cli.processes import WorkerProcess
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store import keys
from runtime_core.store.connection import connect
from tests.integration.fleet.conftest import Fleet, request, wait_until


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: str
    seconds: float
    headers: Any

    @property
    def missing(self) -> str:
        return "; ".join(json.loads(self.body)["missing"])


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Asks one worker."""

    port: int

    async def __call__(self, path: str, method: str = "GET") -> Answer:
        return await asyncio.to_thread(self._ask, method, path)

    def _ask(self, method: str, path: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        began = time.monotonic()
        try:
            connection.request(method, path)
            response: HTTPResponse = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        return Answer(
            status=response.status, body=body, seconds=time.monotonic() - began, headers=dict(response.getheaders())
        )

    async def becomes(self, path: str, status: int, missing: str = "", seconds: float = 15.0) -> None:
        """Return when the answer is ``status`` and says ``missing``; every answer must come within a second."""

        async def as_expected() -> bool:
            answer = await self(path)
            assert answer.seconds < 1, f"{path} took {answer.seconds:.1f} s"
            return answer.status == status and missing in answer.missing

        await wait_until(as_expected, f"{path} answers {status} {missing}", seconds)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(directory=tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_url(server: EmbeddedRedis) -> str:
    return server.url


async def _port(worker: WorkerProcess) -> int:
    """The one that the worker's log names."""
    said: list[str] = []

    def serves() -> bool:
        said.extend(re.findall(r"http://127\.0\.0\.1:(\d+) serves .*/live, /ready", worker.log.read_text()))
        return bool(said)

    await wait_until(serves, "the worker says where it answers", seconds=30)
    return int(said[0])


async def test_probes_follow_a_worker_through_silence_hanging_an_outage_and_its_drain(
    fleet: Fleet, server: EmbeddedRedis
) -> None:
    (worker,) = await fleet.start(1, RUNLANE_HEALTH_PORT="0", RUNLANE_METRICS_PORT="0")
    await fleet.ready()
    probe = Probe(port=await _port(worker))
    async with connect(fleet.redis_url) as redis:
        (name,) = [one async for one in redis.scan_iter(keys.worker("*"))]
        assert await redis.hmget(name, "metrics_port", "health_port") == [str(probe.port)] * 2

    # At work; the same port serves the metrics.
    await probe.becomes("/ready", 200)
    await probe.becomes("/live", 200)
    assert "runlane_redis_up 1.0" in (await probe("/metrics")).body
    assert (await probe("/live?verbose=1", "HEAD")).status == 200
    unknown, refused = await probe("/"), await probe("/ready", "POST")
    assert (unknown.status, unknown.body) == (404, "not found; there is: /live, /metrics, /ready\n")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")

    # The consumer falls silent: it is restarted, which no supervisor needs to do.
    await fleet.client.run(request("deafen"))
    await probe.becomes("/ready", 503, "the consumer does not poll its queues")
    await probe.becomes("/live", 200)
    await probe.becomes("/ready", 200)

    # The event loop hangs, for less time than would end the process.
    await fleet.client.submit(request("block 5"))
    await probe.becomes("/live", 503, "the event loop does not turn")
    await probe.becomes("/ready", 503, "the event loop does not turn")
    await probe.becomes("/live", 200)
    await probe.becomes("/ready", 200)

    # Redis goes away: a restart would cure nothing, and a scrape still answers.
    server.stop()
    await probe.becomes("/ready", 503, "Redis has not answered for")
    await probe.becomes("/live", 200)
    scrape = await probe("/metrics")
    assert scrape.seconds < 1
    assert "runlane_redis_up 0.0" in scrape.body
    assert "runlane_queue_doorbells{" not in scrape.body, "an old depth would look like a true one"
    assert "runlane_leases_held 8.0" in scrape.body
    server.start()
    await probe.becomes("/ready", 200, seconds=30)

    # It is told to stop while a run executes.
    handle = await fleet.client.submit(request("wait 3"))
    await wait_until(lambda: fleet.journal()[-1].get("input") == "wait 3", "the run executes")
    worker.terminate()
    await probe.becomes("/ready", 503, "it drains")
    await probe.becomes("/live", 200)
    assert (await handle.result(timeout=15)).final_output == "waited"
    await wait_until(lambda: worker.exit_code == 0, "the worker has drained", seconds=20)


async def test_a_worker_that_waits_for_redis_at_start_is_alive_and_not_ready(
    fleet: Fleet, server: EmbeddedRedis
) -> None:
    server.stop()
    (worker,) = await fleet.start(1, RUNLANE_HEALTH_PORT="0")
    probe = Probe(port=await _port(worker))
    await probe.becomes("/live", 200)
    await probe.becomes("/ready", 503, "it is starting")
    server.start()
    await probe.becomes("/ready", 200, seconds=30)
