"""Applies a fault schedule to a fleet and its Redis."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_core.clock import boot_seconds
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store import keys
from tests.chaos.faults import Fault, Target
from tests.chaos.fleet import ChaosFleet, Worker
from tests.chaos.history import Applied, FaultKind
from tests.chaos.proxy import Proxy


class Injector:
    """``busy`` says which processes execute a run now; ``lookout`` is a connection to Redis that no fault meets."""

    def __init__(
        self,
        *,
        fleet: ChaosFleet,
        redis: EmbeddedRedis,
        lookout: Redis,
        clients: Proxy,
        partitions: int,
        busy: Callable[[], Collection[int]],
        rng: random.Random,
    ) -> None:
        self._fleet = fleet
        self._redis = redis
        self._lookout = lookout
        self._clients = clients
        self._partitions = partitions
        self._busy = busy
        self._rng = rng
        self._stopped: set[int] = set()
        self.applied: list[Applied] = []
        #: SIGKILLs that met a process while it executed a run.
        self.hits = 0

    async def follow(self, fault: Fault) -> None:
        """Apply one line of a schedule until cancelled; what it broke is whole again then."""
        await asyncio.sleep(fault.every if fault.first is None else fault.first)
        async with asyncio.TaskGroup() as group:
            for turn in count():
                group.create_task(self.apply(fault, fault.lasts[turn % len(fault.lasts)]))
                await asyncio.sleep(fault.every)

    async def apply(self, fault: Fault, lasts: float = 0.0) -> None:
        """Apply it once, for ``lasts`` seconds. No worker that fits is no error."""
        match fault.kind:
            case FaultKind.REDIS_KILL:
                await self._kill_redis(lasts)
            case FaultKind.DOORBELLS_LOST:
                await self._doorbells(fault.kind, lose=True)
            case FaultKind.DOORBELLS_TRIPLED:
                await self._doorbells(fault.kind, lose=False)
            case _:
                await asyncio.gather(*(self._meet(fault, worker, lasts) for worker in self._targets(fault.target)))

    def _targets(self, target: Target) -> list[Worker]:
        living = [worker for worker in self._fleet.living if not worker.ended and worker.pid not in self._stopped]
        if target is Target.ALL:
            return living
        if target is Target.BUSY:
            busy = self._busy()
            living = [worker for worker in living if worker.pid in busy]
        return [self._rng.choice(living)] if living else []

    async def _meet(self, fault: Fault, worker: Worker, lasts: float) -> None:
        at, until = boot_seconds(), None
        match fault.kind:
            case FaultKind.SIGKILL:
                self.hits += worker.pid in self._busy()
                at = self._fleet.kill(worker)
            case FaultKind.SIGTERM:
                worker.process.terminate()
            case FaultKind.SIGSTOP:
                until = await self._stop(worker, lasts)
            case FaultKind.CUT:
                worker.proxy.cut()
                if fault.target is Target.ALL:
                    self._clients.cut()
            case FaultKind.DELAY:
                worker.proxy.delay_s = fault.delay
                until = await self._after(lasts, lambda: setattr(worker.proxy, "delay_s", 0.0))
            case FaultKind.ISOLATION:
                worker.proxy.hold()
                until = await self._after(lasts, worker.proxy.release)
            case FaultKind.PUBSUB_MUTED:
                worker.proxy.muted = True
                until = await self._after(lasts, worker.proxy.unmute)
            case _:
                raise ValueError(f"{fault.kind} meets no worker")
        self.applied.append(Applied(kind=fault.kind, at=at, until=until, pid=worker.pid, worker=worker.name))

    async def _stop(self, worker: Worker, lasts: float) -> float:
        def go_on() -> None:
            self._stopped.discard(worker.pid)
            if not worker.ended:
                os.kill(worker.pid, signal.SIGCONT)

        self._stopped.add(worker.pid)
        os.kill(worker.pid, signal.SIGSTOP)
        return await self._after(lasts, go_on)

    async def _after(self, seconds: float, heal: Callable[[], None]) -> float:
        """Heal after ``seconds``, or when the schedule ends; returns when."""
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(seconds)
        heal()
        return boot_seconds()

    async def _kill_redis(self, lasts: float) -> None:
        at = boot_seconds()
        self._redis.crash()
        await self._after(lasts, lambda: None)
        starting = asyncio.ensure_future(asyncio.to_thread(self._redis.start))
        with suppress(asyncio.CancelledError):
            await asyncio.shield(starting)
        await starting
        self.applied.append(Applied(kind=FaultKind.REDIS_KILL, at=at, until=boot_seconds()))

    async def _doorbells(self, kind: FaultKind, *, lose: bool) -> None:
        queues = [keys.queue(partition) for partition in range(self._partitions)]
        try:
            pipeline = self._lookout.pipeline(transaction=False)
            for queue in queues:
                pipeline.lrange(queue, 0, -1)
            waiting = {queue: bells for queue, bells in zip(queues, await pipeline.execute(), strict=True) if bells}
            for queue, bells in waiting.items():
                if lose:
                    await self._lookout.delete(queue)
                else:
                    await self._lookout.lpush(queue, *bells, *bells)
        except (RedisError, OSError):
            return
        for _ in range(sum(map(len, waiting.values()))):
            self.applied.append(Applied(kind=kind, at=boot_seconds()))
