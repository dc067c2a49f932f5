"""All of one chaos run put together: Redis with AOF, proxies, workers, clients, lookouts. It yields a history."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from producer.client import AsyncClient
from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import RunRecord, RunState
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import RunNotFound
from runtime_core.store.connection import connect
from tests.chaos.faults import Fault
from tests.chaos.fleet import ChaosFleet
from tests.chaos.history import Cancelled, History
from tests.chaos.injector import Injector
from tests.chaos.journal import read_journal
from tests.chaos.load import Load, reread
from tests.chaos.lookout import JournalTail, LeaseWatch
from tests.chaos.proxy import Proxy

#: Seconds after the last fault in which every accepted run must have finished: takeovers, probation, back-off of rings.
SETTLE_S = 90.0
_PROGRESS_EVERY_S = 5.0


class Arena:
    """An async context manager: entered, Redis serves and no worker runs yet; left, everything is gone."""

    def __init__(self, folder: Path, *, partitions: int, seed: int, console: Console, look_every: float = 0.1) -> None:
        self.partitions = partitions
        self.rng = random.Random(seed)
        self.console = console
        self.cancels: list[Cancelled] = []
        self._folder = folder
        self._look_every = look_every
        self._stack = AsyncExitStack()
        self._background: list[asyncio.Task[None]] = []
        self.tail = JournalTail(folder / "journal")
        self.redis = EmbeddedRedis(directory=folder / "redis", appendfsync="always")
        self.not_stopped: list[str] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(self.redis)
            self.direct = await stack.enter_async_context(AsyncClient(self.redis.url, partitions=self.partitions))
            self.lookout = connect(self.redis.url)
            stack.push_async_callback(self.lookout.aclose)
            self.proxy = await stack.enter_async_context(Proxy(self.redis.port))
            self.client = await stack.enter_async_context(AsyncClient(self.proxy.url, partitions=self.partitions))
            self.leases = LeaseWatch(self.lookout, self.partitions, every=self._look_every)
            self.fleet = ChaosFleet(
                self._folder, self.redis.port, partitions=self.partitions, redis_url=lambda: self.redis.url
            )
            stack.push_async_callback(self._stop_fleet)
            self.injector = Injector(
                fleet=self.fleet,
                redis=self.redis,
                lookout=self.lookout,
                clients=self.proxy,
                partitions=self.partitions,
                busy=self.tail.busy,
                rng=self.rng,
            )
            self.load = Load(self.client)
            for work in (self.fleet.attend(), self.leases.run(), self._progress()):
                self._background.append(asyncio.create_task(work))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def start(self, workers: int) -> None:
        """Start workers and wait until they share the partitions."""
        await self.fleet.grow(workers)
        await self.fleet.ready()

    async def under(self, faults: Sequence[Fault], work: Coroutine[None, None, None]) -> None:
        """Do ``work`` while ``faults`` happen."""
        injections = [asyncio.create_task(self.injector.follow(fault)) for fault in faults]
        doing = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait([doing, *injections], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            doing.cancel()
            for injection in injections:
                injection.cancel()
            await asyncio.gather(*injections, return_exceptions=True)

    async def alongside(self, work: Coroutine[None, None, None], load: Coroutine[None, None, None]) -> None:
        """Do both; the load goes on until it ends by itself. A failure of either ends the other."""
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            group.create_task(load)

    async def settle(self, within: float = SETTLE_S) -> None:
        """Wait until every stream has ended, ``within`` seconds at most, and stop the fleet."""
        await self.load.ended(within)
        await self._stop_fleet()

    async def collect(self, *, reread_streams: bool = True) -> History:
        """All that there is to see, read with a client that no fault meets."""
        runs = [submitted.run for submitted in self.load.submitted]
        records = {record.run_id: record for record in await self._records(runs)}
        finished = [run for run in runs if run in records and records[run].state is RunState.FINISHED]
        return History(
            partitions=self.partitions,
            boot_offset=boot_seconds() - time.time(),
            submitted=self.load.submitted,
            journal=read_journal(self._folder / "journal"),
            faults=self.injector.applied,
            exits=self.fleet.exits,
            owners=self.leases.changes,
            cancels=self.cancels,
            streams=self.load.streams,
            rereads=await reread(self.direct, finished) if reread_streams else {},
            records=records,
        )

    async def _records(self, runs: Sequence[str]) -> list[RunRecord]:
        return [record for record in await asyncio.gather(*map(self._record, runs)) if record is not None]

    async def _record(self, run: str) -> RunRecord | None:
        try:
            return await self.direct.get(run)
        except RunNotFound:
            return None

    async def _stop_fleet(self) -> None:
        if not self._background:
            return
        for task in self._background:
            task.cancel()
        outcomes = await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        self.not_stopped = await self.fleet.stop()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _progress(self) -> None:
        begin = boot_seconds()
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            self.console.print(
                f"{boot_seconds() - begin:5.0f} s  submitted {len(self.load.submitted)}  finished {self.load.finished}"
                f"  starts {self.tail.started()}  faults {len(self.injector.applied)}"
                f"  kills that hit {self.injector.hits}  workers {len(self.fleet.living)}",
                highlight=False,
            )


async def wait_until(condition: Callable[[], bool], description: str, within: float) -> float:
    """Wait until ``condition`` holds; returns when (CLOCK_BOOTTIME). Raises TimeoutError with the description."""
    end = boot_seconds() + within
    while not condition():
        if boot_seconds() > end:
            raise TimeoutError(f"after {within:g} s still not: {description}")
        await asyncio.sleep(0.02)
    return boot_seconds()
