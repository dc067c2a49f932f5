"""Fixtures of workers on a Redis of their own, for a module's tests of streams: one start for all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.embedded import EmbeddedRedis
from tests.chaos.proxy import Proxy
from tests.integration.fleet.conftest import AGENTS, PARTITIONS
from tests.integration.fleet.plugins import JOURNAL, read_journal


@dataclass(frozen=True, kw_only=True)
class TalkingWorkers:
    """Agent ``journal`` with ``talk <count> <rate>`` says numbers as ``llm.delta``, ``rate`` of them per second."""

    redis: EmbeddedRedis
    fleet: WorkerFleet
    journal: Path

    def client(self, url: str | None = None) -> AsyncClient:
        return AsyncClient(url or self.redis.url, partitions=PARTITIONS)

    def executing(self, run_id: str) -> WorkerProcess:
        """The worker of the run's newest attempt."""
        pid = [line["pid"] for line in read_journal(self.journal) if line["run"] == run_id][-1]
        return next(worker for worker in self.fleet.workers if worker.pid == pid)

    def started(self, run_id: str) -> int:
        """How many of its attempts have begun."""
        return sum(line["run"] == run_id and line["what"] == "start" for line in read_journal(self.journal))

    async def log(self, run_id: str) -> list[RunStreamChunk]:
        """What a reader gets that comes when all is over."""
        async with self.client() as client:
            return [chunk async for chunk in client.stream(run_id)]


@contextmanager
def _talking_workers(folder: Path, count: int) -> Generator[TalkingWorkers]:
    (folder / "agents.yaml").write_text(yaml.safe_dump({"agents": AGENTS}))
    with EmbeddedRedis() as redis:
        environment = worker_environment(
            redis_url=redis.url,
            concurrency=200,
            extra={
                "RUNLANE_CONFIG": str(folder / "agents.yaml"),
                JOURNAL: str(folder / "journal"),
                "RUNLANE_PARTITIONS": str(PARTITIONS),
                "RUNLANE_EXPECT_WORKERS": str(count),
                "PYTHONPATH": os.getcwd(),
            },
        )
        workers = [WorkerProcess(f"w{number}", environment, folder / f"w{number}.log") for number in range(count)]
        with WorkerFleet(workers, stop_within=20) as fleet:
            asyncio.run(fleet.ready(redis.url, PARTITIONS))
            yield TalkingWorkers(redis=redis, fleet=fleet, journal=folder / "journal")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TalkingWorkers]:
    with _talking_workers(tmp_path_factory.mktemp("streams"), 2) as workers:
        yield workers


@pytest.fixture
async def client(workers: TalkingWorkers) -> AsyncIterator[AsyncClient]:
    async with workers.client() as client:
        yield client


@pytest.fixture
async def proxy(workers: TalkingWorkers) -> AsyncIterator[Proxy]:
    """What stands between Redis and the readers, or the gateway, alone."""
    async with Proxy(workers.redis.port) as proxy:
        yield proxy
