"""A real fleet: workers started by the public command on a real Redis, with plugins that journal outside of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.run import RunRequest
from runtime_core.store.attempts import AttemptStore
from runtime_core.store.leases import LeaseStore
from tests.integration.fleet.plugins import JOURNAL, read_journal
from workers.control.drain import Drain
from workers.execution.attempts import AttemptTable
from workers.partitions.keeper import PartitionKeeper
from workers.partitions.rebalancer import Rebalancer

PARTITIONS = 8
_PLUGINS = "tests.integration.fleet.plugins"

AGENTS: list[dict[str, Any]] = [
    {
        "id": "journal",
        "name": "Journal",
        "memory": {"type": "buffer"},
        "pattern": {"impl": f"{_PLUGINS}.Journal"},
    },
    {
        "id": "assistant",
        "name": "Assistant",
        "memory": {"type": "window_buffer"},
        "pattern": {"type": "react"},
        "llm": {"provider": "mock"},
        "tools": [{"id": "calc", "type": "calc"}, {"id": "slow", "impl": f"{_PLUGINS}.SlowTool"}],
    },
    {
        "id": "broken",
        "name": "Broken",
        "memory": {"type": "buffer"},
        "pattern": {"impl": "tests.no_such_module.Pattern"},
    },
]


class Fleet:
    """Workers, a client, and the journal of their plugins."""

    def __init__(self, redis_url: str, folder: Path, client: AsyncClient) -> None:
        self.redis_url = redis_url
        self.folder = folder
        self.client = client
        self.journal_path = folder / "journal"
        self.workers: list[WorkerProcess] = []

    async def start(self, count: int, **settings: str) -> list[WorkerProcess]:
        """Start ``count`` more workers and wait until all that live share the partitions."""
        first = len(self.workers)
        living = sum(worker.exit_code is None for worker in self.workers)
        environment = worker_environment(
            redis_url=self.redis_url,
            extra={
                # Not as an argument, which is checked before the worker gets to see it.
                "RUNLANE_CONFIG": str(self.folder / "agents.yaml"),
                JOURNAL: str(self.journal_path),
                "RUNLANE_PARTITIONS": str(PARTITIONS),
                "RUNLANE_EXPECT_WORKERS": str(living + count),
                "PYTHONPATH": os.getcwd(),
                **settings,
            },
        )
        started = [
            WorkerProcess(f"w{number}", environment, self.folder / f"w{number}.log").start()
            for number in range(first, first + count)
        ]
        self.workers += started
        return started

    async def ready(self) -> None:
        living = [worker for worker in self.workers if worker.exit_code is None]
        await WorkerFleet(living).ready(self.redis_url, PARTITIONS)

    def journal(self) -> list[dict[str, Any]]:
        return read_journal(self.journal_path)

    def logs(self) -> str:
        return "\n".join(worker.log.read_text(errors="replace") for worker in self.workers)

    def stop(self) -> None:
        """Stop them; one that does not drain within its grace (30 s) and so has to be killed is a defect."""
        living = [worker for worker in self.workers if worker.exit_code is None]
        WorkerFleet(living, stop_within=20).stop()
        killed = [worker.name for worker in living if worker.exit_code == -signal.SIGKILL]
        assert not killed, f"{killed} did not stop within 20 s"


def request(text: str, session: str = "s", agent: str = "journal", **fields: Any) -> RunRequest:
    return RunRequest(agent_id=agent, session_id=session, input_text=text, **fields)


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], description: str, seconds: float = 15.0) -> None:
    """Return when ``condition`` holds; fail with ``description`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s still not: {description}")
        await asyncio.sleep(0.02)


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    (tmp_path / "agents.yaml").write_text(yaml.safe_dump({"agents": AGENTS}))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(redis_url, partitions=PARTITIONS))
        fleet = Fleet(redis_url, tmp_path, client)
        stack.callback(fleet.stop)
        yield fleet


class Queues:
    """The doorbell queues that a keeper has joined, with no consumer behind them."""

    def __init__(self) -> None:
        self.joined: set[int] = set()
        #: Every join, in order.
        self.joins: list[int] = []

    def join(self, partition: int) -> None:
        self.joined.add(partition)
        self.joins.append(partition)

    def leave(self, partition: int) -> None:
        self.joined.discard(partition)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The partitions of one worker, w1, without Celery around them."""

    keeper: PartitionKeeper
    drain: Drain
    table: AttemptTable
    queues: Queues


KeptBy = Callable[..., AbstractAsyncContextManager[Kept]]


async def _nothing() -> None: ...


@pytest.fixture
def kept_by(redis: Redis) -> KeptBy:
    @asynccontextmanager
    async def keep(
        leases: LeaseStore, *, works: Callable[[], bool] = lambda: True, grace: float = 1.0, partitions: int = 2
    ) -> AsyncGenerator[Kept]:
        table, queues = AttemptTable(), Queues()
        keeper = PartitionKeeper(
            worker="w1",
            partitions=partitions,
            leases=leases,
            attempts=AttemptStore(redis),
            table=table,
            consumption=queues,
            info=dict,
            works=works,
            expect_workers=1,
            on_left=lambda _: None,
            on_swept=_nothing,
            on_cascade=lambda _: None,
        )
        rebalancer = Rebalancer(keeper, table, worker="w1", grace=grace)
        running = asyncio.create_task(keeper.run(rebalancer.consider))
        try:
            yield Kept(keeper=keeper, drain=Drain(keeper, rebalancer, table, worker="w1"), table=table, queues=queues)
        finally:
            running.cancel()
            await asyncio.wait({running})

    return keep
