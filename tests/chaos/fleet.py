"""The fleet under test: workers started by the public command, each behind its own proxy, replaced when they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from runtime_core.clock import boot_seconds
from tests.chaos.history import Exit
from tests.chaos.journal import JOURNAL
from tests.chaos.plugins import AGENT
from tests.chaos.proxy import Proxy

#: Seconds between two looks at the processes.
_LOOK_EVERY_S = 0.02
#: Seconds in which a worker that was asked to stop ends, its drain included.
STOP_WITHIN_S = 40.0


@dataclass(frozen=True, kw_only=True)
class Worker:
    process: WorkerProcess
    proxy: Proxy

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.exit_code is not None


class ChaosFleet:
    """``size`` workers. One that ends is replaced at once, by a process with a name of its own."""

    def __init__(self, folder: Path, redis_port: int, *, partitions: int, redis_url: Callable[[], str]) -> None:
        self._folder = folder
        self._redis_port = redis_port
        self._redis_url = redis_url
        self._partitions = partitions
        self._number = 0
        self._killed_at: dict[int, float] = {}
        self.size = 0
        self.living: list[Worker] = []
        self.exits: list[Exit] = []
        (folder / "agents.yaml").write_text(yaml.safe_dump({"agents": [AGENT]}))

    async def grow(self, count: int) -> list[Worker]:
        """Start ``count`` more workers; returns while they start."""
        self.size += count
        return [await self._start() for _ in range(count)]

    def shrink(self) -> None:
        """Replace one worker less from now on; ends none."""
        self.size -= 1

    async def dismiss(self) -> None:
        """Let all go in order; ``attend`` sees them out. ``grow`` starts others."""
        self.size = 0
        for worker in self.living:
            worker.process.terminate()
        async with asyncio.timeout(STOP_WITHIN_S):
            while self.living:
                await asyncio.sleep(_LOOK_EVERY_S)

    async def ready(self) -> None:
        """Wait until all partitions are owned and every worker owns some."""
        await WorkerFleet([worker.process for worker in self.living]).ready(self._redis_url(), self._partitions)

    def by_name(self, name: str) -> Worker | None:
        return next((worker for worker in self.living if worker.name == name), None)

    def kill(self, worker: Worker) -> float:
        """SIGKILL; returns when it was sent."""
        self._killed_at[worker.pid] = at = boot_seconds()
        os.kill(worker.pid, signal.SIGKILL)
        return at

    async def attend(self) -> None:
        """Notice ends and replace, for ever."""
        while True:
            for worker in [worker for worker in self.living if worker.ended]:
                await self._bury(worker)
                if len(self.living) < self.size:
                    await self._start()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stop(self) -> list[str]:
        """SIGTERM to all; returns the names of those that had to be killed for it."""
        self.size = 0
        remaining = list(self.living)
        await asyncio.to_thread(WorkerFleet([one.process for one in remaining], stop_within=STOP_WITHIN_S).stop)
        for worker in remaining:
            await self._bury(worker)
        return [worker.name for worker in remaining if worker.process.exit_code == -signal.SIGKILL]

    async def _start(self) -> Worker:
        self._number += 1
        proxy = await Proxy(self._redis_port).__aenter__()
        environment = worker_environment(
            redis_url=proxy.url,
            config=self._folder / "agents.yaml",
            extra={
                JOURNAL: str(self._folder / "journal"),
                "RUNLANE_PARTITIONS": str(self._partitions),
                "PYTHONPATH": os.getcwd(),
            },
        )
        name = f"w{self._number}"
        process = WorkerProcess(name, environment, self._folder / f"{name}.log").start()
        worker = Worker(process=process, proxy=proxy)
        self.living.append(worker)
        return worker

    async def _bury(self, worker: Worker) -> None:
        code = worker.process.exit_code
        assert code is not None
        if worker in self.living:
            self.living.remove(worker)
        at = self._killed_at.get(worker.pid, boot_seconds())
        self.exits.append(Exit(worker=worker.name, pid=worker.pid, at=at, code=code))
        await worker.proxy.__aexit__(None, None, None)
