"""One simulated worker: the product's WorkerProcess. Of Celery there is only what consumer, hub and pool do."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runtime_core.clock import boot_seconds
from runtime_core.config.settings import Settings
from runtime_core.ids import ScopedRunId
from runtime_core.store.attempts import Refusal
from tests.simulator.environment import REDIS_URL
from tests.simulator.loop import SimulatedProcess, VirtualLoop
from tests.simulator.network import Network
from workers.execution.attempts import Attempt, AttemptTable
from workers.intake import DoorbellQueues, partition_of_queue
from workers.pool.greenlets import await_, run_in_greenlet
from workers.pool.hub_queue import ConsumerRestart
from workers.process import WorkerProcess

#: Seconds of one BRPOP.
_POLL = 1.0
#: Seconds between two tries to reach Redis again.
_RECONNECT = 1.0


class Bells:
    """How doorbells go astray between Redis and the intake; probabilities."""

    def __init__(self, chance: random.Random, *, lost: float = 0.0, doubled: float = 0.0, reordered: float = 0.0):
        self.chance = chance
        self.lost = lost
        self.doubled = doubled
        self.reordered = reordered

    def arrive(self, bells: list[tuple[str, str]]) -> list[tuple[str, str]]:
        came = [bell for bell in bells if self.chance.random() >= self.lost]
        came += [bell for bell in came if self.doubled and self.chance.random() < self.doubled]
        if self.reordered and self.chance.random() < self.reordered:
            self.chance.shuffle(came)
        return came


class Hub:
    """Celery's hub: one thread that makes the calls it is asked for, in order. Also the pool, as Runlane sees it."""

    def __init__(self, process: SimulatedProcess, chance: random.Random, limit: int) -> None:
        self._process = process
        self._chance = chance
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._wake = asyncio.Event()
        self.limit = limit
        self.reserved = 0
        self.executing = 0
        self.waiting = 0
        self.on_restart: Callable[[], object] = lambda: None

    @property
    def num_processes(self) -> int:
        return self.limit + self.waiting - self.reserved - self.executing

    @contextmanager
    def without_slot(self) -> Generator[None]:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def submit(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._process.start(work)

    def call_on_loop(self, function: Callable[..., Any], *args: Any) -> None:
        async def call() -> None:
            function(*args)

        self._process.start(call())

    def call_on_hub(self, function: Callable[..., Any], *args: Any) -> None:
        self._calls.append((function, args))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._chance.uniform(0, 0.002))
            while self._calls:
                function, args = self._calls.popleft()
                try:
                    await run_in_greenlet(lambda function=function, args=args: function(*args))
                except ConsumerRestart:
                    self.on_restart()


class Table(AttemptTable):
    """The hub's thread may stand still anywhere; this is where the loop's thread could get ahead of it."""

    def __init__(self, pause: Callable[[], float]) -> None:
        super().__init__()
        self._pause = pause

    def enter(self, attempt: Attempt) -> bool:
        if attempt.within is None:  # those enter on the loop's thread
            await_(asyncio.sleep(self._pause()))
        return super().enter(attempt)


class Consumer:
    """Celery's consumer of doorbells: polls the joined queues while slots are free. Has the attributes of Celery's that
    DoorbellQueues uses.
    """

    def __init__(self, network: Network, process: SimulatedProcess, hub: Hub, bells: Bells) -> None:
        self._network = network
        self._process = process
        self._hub = hub
        self._bells = bells
        self._active: list[str] = []
        self._cut = asyncio.Event()
        self.receive: Callable[[str, str], None] = lambda queue, message: None
        self.silent = False
        self.last_poll: float | None = None
        self.qos = self
        self.free_slots: Callable[[], int] = lambda: 0
        self.task_consumer = SimpleNamespace(channel=self)
        self.app = SimpleNamespace(amqp=SimpleNamespace(queues=_AnyQueue()))

    def can_consume(self) -> bool:
        return self._hub.num_processes > 0

    def add_task_queue(self, name: str) -> None:
        if name not in self._active:
            self._active.append(name)

    def cancel_task_queue(self, name: str) -> None:
        if name in self._active:
            self._active.remove(name)

    def cut_poll(self) -> None:
        self._cut.set()

    async def run(self) -> None:
        while True:
            if not self._network.reachable(self._process):
                await asyncio.sleep(_RECONNECT)
                continue
            if self.silent or not self._active or not self.can_consume():
                await asyncio.sleep(0.05)
                continue
            self.last_poll = boot_seconds()
            found = await self._poll()
            self.last_poll = boot_seconds()
            for queue, message in self._bells.arrive(found):
                self._hub.call_on_hub(self.receive, queue, message)
            if found:
                await asyncio.sleep(0.002)

    async def _poll(self) -> list[tuple[str, str]]:
        bell: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()

        def deliver(queue: str, message: str) -> None:
            if not bell.done():
                bell.set_result((queue, message))

        give_up = self._network.poll(tuple(self._active), self._process, deliver)
        self._active.append(self._active.pop(0))
        self._cut.clear()
        cut = asyncio.ensure_future(self._cut.wait())
        await asyncio.wait({bell, cut}, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        give_up()
        if not bell.done():
            await asyncio.sleep(0.004)  # one that was on its way
        return [bell.result()] if bell.done() else []


class _AnyQueue(dict[str, Any]):
    def __contains__(self, name: object) -> bool:
        return True


class SimulatedWorker:
    """A worker process under a name of its own."""

    def __init__(
        self,
        loop: VirtualLoop,
        network: Network,
        name: str,
        *,
        chance: random.Random,
        config: Path,
        bells: Bells,
        slots: int,
        settings: Mapping[str, Any],
        mute: Collection[str],
    ) -> None:
        self.name = name
        self.process = SimulatedProcess(loop, name)
        self._network = network
        self._chance = chance
        self._bells = bells
        self._slots = slots
        self._settings = Settings(redis_url=REDIS_URL, config=config, **settings)
        self._mute = mute
        #: Seconds for which the hub's thread stands still before a run enters the table.
        self.pause_before_entering = 0.001
        self.draining = False
        #: Whether it has ended in order: with nothing left, not while Redis was away.
        self.drained = False
        self.born = loop.time()
        self.worker: WorkerProcess | None = None

    def __repr__(self) -> str:
        return repr(self.process)

    def start(self) -> None:
        self.process.start(self._open())

    async def _open(self) -> None:
        self.hub = hub = Hub(self.process, self._chance, self._slots)
        pool: Any = hub
        self.queues = DoorbellQueues(pool)
        worker = WorkerProcess(self._settings, pool, self.queues, self.name)
        worker.table = Table(lambda: self.pause_before_entering)
        worker.worker = self.name
        self.process.start(hub.run(), thread="hub")
        await worker.open()
        self.worker = worker
        hub.on_restart = self._consume
        self._consume()

    def _consume(self) -> None:
        self.consumer = consumer = Consumer(self._network, self.process, self.hub, self._bells)
        consumer.receive = self._receive
        consumer.silent = self.name in self._mute
        self.hub.call_on_hub(self.queues.attach, consumer)
        self.process.start(consumer.run(), thread="hub")

    def _receive(self, queue: str, message: str) -> None:
        """As workers.tasks.doorbell_strategy does."""
        assert self.worker is not None
        run = ScopedRunId(json.loads(message)["headers"]["id"])
        partition = partition_of_queue(queue)
        assert partition is not None
        self.worker.intake.receive(run, partition, lambda: self._accept(run))

    def _accept(self, run: ScopedRunId) -> None:
        self.hub.executing += 1
        self.process.start(self._execute(run))

    async def _execute(self, run: ScopedRunId) -> None:
        """As workers.tasks.execute does."""
        assert self.worker is not None
        attempt = self.worker.table.get(run)
        try:
            if attempt is None or attempt.answer is None:
                return
            if isinstance(attempt.answer, Refusal):
                self.worker.table.leave(attempt)
            else:
                await self.worker.runner.execute(attempt)
        finally:
            self.hub.executing -= 1

    def drain(self, grace: float | None = None) -> None:
        """SIGTERM."""
        self.draining = True
        self.process.start(self._drain(grace))

    async def _drain(self, grace: float | None) -> None:
        while self.worker is None:
            await asyncio.sleep(0.1)
        await self.worker.drain(self.worker.drain_grace if grace is None else grace)
        await self.worker.close()
        self.drained = not self.worker.keeper.held
        self.process.kill()
