"""The composition root of a worker process: what is built from settings and pool, opened and closed with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from importlib.metadata import version as installed_version
from typing import Any, TypeVar
from uuid import uuid4

from runtime_core.clock import now_ms
from runtime_core.config.settings import Settings
from runtime_core.errors import RunNotFound
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.kernel.runtime import Runtime
from runtime_core.partitioning import partition_of
from runtime_core.plugins.builtin.session.redis import RedisSession
from runtime_core.redaction import redacted_url
from runtime_core.store.approvals import ApprovalStore
from runtime_core.store.attempts import AttemptStore
from runtime_core.store.configs import ConfigStore
from runtime_core.store.connection import RETRYABLE, connect, connect_sync
from runtime_core.store.leases import FleetView, LeaseStore
from runtime_core.store.meta import check_eviction_policy, open_store
from runtime_core.store.runs import RunStore
from runtime_core.store.sessions import SessionStore
from workers.agents_config import AgentsConfig, first_config
from workers.control.channel import listen
from workers.control.drain import Drain
from workers.control.fleet_events import FleetEvents
from workers.execution.attempts import AttemptTable, StopCause
from workers.execution.host import Services
from workers.execution.runner import Runner
from workers.intake import DoorbellQueues, Intake
from workers.liveness import Liveness, exit_hung
from workers.monitoring.endpoints import Monitored, Monitoring
from workers.monitoring.tracing import start_tracing
from workers.partitions.keeper import PartitionKeeper
from workers.partitions.ownership import Ownership
from workers.partitions.rebalancer import Rebalancer
from workers.partitions.renewal import RENEWAL_TIMEOUT, Renewal
from workers.pool.asyncio_pool import TaskPool

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RELEASE = installed_version("runlane")
#: Seconds between two tries to reach Redis at start.
_STORE_RETRY = 1.0
#: Seconds that background tasks get to end.
_STOP_GRACE = 2.0


class WorkerProcess:
    """Everything of Runlane in one worker process. ``open`` and ``close`` run on the pool's loop.

    ``worker`` is unique to this process: a restart under the same Celery node name is another worker.
    """

    def __init__(self, settings: Settings, pool: TaskPool, queues: DoorbellQueues, node_name: str) -> None:
        self._settings = settings
        self.pool = pool
        self.queues = queues
        self._node_name = node_name
        self.worker = f"{node_name}.{uuid4().hex[:6]}"
        self.table = AttemptTable()
        self._redis = connect(settings.redis_url, batching=True)
        self.attempts = AttemptStore(self._redis)
        self._monitoring = Monitoring(settings, worker=self.worker, release=_RELEASE)
        self.intake = Intake(self, pool)
        self.session_idle_s = settings.session_idle_s
        self.configs = ConfigStore(self._redis)
        self.drain_grace = settings.drain_grace_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cascading: set[ScopedRunId] = set()
        self._started_ms = now_ms()
        self._closed = False
        self.opened = False

    async def open(self) -> None:
        """Connect, check the store, load the agents, start to keep partitions. Raises ConfigError with the fix.

        While Redis does not answer it waits, as Celery does.
        """
        settings = self._settings
        self._monitoring.start()
        self._stop_tracing = start_tracing(settings, self.worker)
        partitions = await self._until_redis_answers(self._open_store)
        config, version = await self._until_redis_answers(lambda: first_config(self.configs, settings.config))
        self.runs = RunStore(
            self._redis,
            partitions,
            session_limit=settings.session_queue_limit,
            partition_limit=settings.partition_queue_limit,
        )
        self._sessions = RedisSession({"redis_url": settings.redis_url})
        self.runtime = Runtime(
            config,
            session_manager=self._sessions,
            config_version=version,
            shared_sessions_only=True,
            session_cache_size=settings.session_cache_size,
            session_idle_seconds=settings.session_idle_s,
            deps_factories=settings.deps_factories,
        )
        problems = await asyncio.to_thread(self.runtime.problems_of, config)
        for problem in problems:
            logger.error("%s", problem)  # its agent's runs fail with it, the other agents work
        self.agents_config = AgentsConfig(self.configs, self.runtime, problems[0] if problems else None)
        self.sessions = SessionStore(self._redis, partitions)
        self._fleet_events = FleetEvents(self._redis, self.worker, lambda: self.config_version)
        self.runtime.event_bus.subscribe("*", self._fleet_events.mirror)
        services = Services(
            attempts=self.attempts,
            runs=self.runs,
            approvals=ApprovalStore(self._redis),
            sessions=self._sessions,
            without_slot=self.pool.without_slot,
        )
        self.runner = Runner(services=services, runtime=self.runtime, table=self.table, worker=self.worker)
        self._partitions = partitions
        self._liveness = liveness = Liveness(self.queues, self.pool.call_on_hub, self._exit_hung)
        self.keeper = PartitionKeeper(
            worker=self.worker,
            partitions=partitions,
            leases=LeaseStore(self._redis),
            attempts=self.attempts,
            table=self.table,
            consumption=self.queues,
            info=self._info,
            works=liveness.works,
            expect_workers=settings.expect_workers,
            on_left=self._evict,
            on_swept=self.runtime.plugin_cache.evict_idle,
            on_cascade=self._cascade,
        )
        rebalancer = Rebalancer(self.keeper, self.table, worker=self.worker, grace=settings.handover_grace_s)
        self._drain = Drain(self.keeper, rebalancer, self.table, worker=self.worker)
        loop = asyncio.get_running_loop()
        self._renewal = Renewal(
            connect_sync(settings.redis_url, timeout=RENEWAL_TIMEOUT),
            lambda: list(self.keeper.held.values()),
            problem=liveness.problem,
            on_tick=liveness.watch_loop,
            on_lost=lambda ownership: loop.call_soon_threadsafe(self.keeper.lose, ownership),
            on_cancel=lambda run: loop.call_soon_threadsafe(self.cancel_here, run),
            on_woken=lambda run: loop.call_soon_threadsafe(self.wake_here, run),
        )
        self._renewal.start()
        listening = listen(
            self._redis, on_cancel=self.cancel_here, on_woken=self.wake_here, on_released=self.keeper.look_now
        )

        def look(fleet: FleetView) -> None:
            rebalancer.consider(fleet)
            self.agents_config.look(fleet)

        for work in (self.keeper.run(look), liveness.beat(), listening):
            self._background(work)
        self._monitoring.watch(
            Monitored(
                partitions=partitions,
                slots=lambda: self.pool.limit,
                keeper=self.keeper,
                liveness=liveness,
                table=self.table,
                cache=self.runtime.plugin_cache,
                config_version=lambda: self.config_version,
            )
        )
        self.opened = True

    @property
    def config_version(self) -> int:
        """Of the agents config that new sessions get here."""
        return self.runtime.config_version

    async def provide_config(self, version: int) -> int:
        """See AgentsConfig.provide."""
        return await self.agents_config.provide(version)

    async def _open_store(self) -> int:
        await check_eviction_policy(self._redis)
        return await open_store(self._redis, self._settings.partitions)

    async def _until_redis_answers(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except RETRYABLE as error:
                url = redacted_url(self._settings.redis_url)
                logger.error("Redis at %s does not answer, trying again: %s", url, error)
                await asyncio.sleep(_STORE_RETRY)

    async def drain(self, grace: float) -> None:
        """Give every partition up; see Drain."""
        self._liveness.draining = True
        await self._drain.run(grace)

    async def close(self) -> None:
        """Stop keeping partitions, close the runtime. Partitions still held expire."""
        if self._closed:
            return
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_GRACE)
        await asyncio.to_thread(self._renewal.stop)
        await asyncio.to_thread(self._monitoring.stop)
        await asyncio.to_thread(self._stop_tracing)
        await self.runtime.close()
        await self._sessions.close()
        await self._redis.aclose()

    def owner_of(self, partition: int) -> Ownership | None:
        """The ownership under which a doorbell of the partition may be admitted now."""
        ownership = self.keeper.held.get(partition)
        return ownership if ownership is not None and ownership.admits else None

    def cancel_here(self, run: ScopedRunId) -> None:
        """A run is to be cancelled; if it executes here, it stops. Loop thread."""
        attempt = self.table.get(run)
        if attempt is not None:
            attempt.stop(StopCause.CANCEL)

    def wake_here(self, run: ScopedRunId) -> None:
        """What a run waits for may have come; if it waits here, it looks again. Loop thread."""
        attempt = self.table.get(run)
        if attempt is not None:
            attempt.woken.set()

    def describe(self) -> dict[str, Any]:
        """What the worker says of itself, with each heartbeat and to whoever asks. Times are milliseconds since the
        epoch by its own clock.
        """
        problem = self.agents_config.problem
        return {
            "node": self._node_name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "release": _RELEASE,
            "started_ms": self._started_ms,
            "seen": now_ms(),
            "problem": self._liveness.problem() or "",
            "config_version": self.config_version,
            "config_problem": "" if problem is None else str(problem),
            "draining": int(self.keeper.draining),
            "concurrency": self.pool.limit,
            "executing": len(self.table),
            "partitions": len(self.keeper.held),
            "sessions": self.runtime.get_session_count(),
            **self._monitoring.ports(),
        }

    def _info(self) -> Mapping[str, str]:
        return {name: str(value) for name, value in self.describe().items()}

    def _evict(self, partition: int) -> None:
        def leaves(session: SessionKey) -> bool:
            return partition_of(session, self._partitions) == partition

        self._background(self.runtime.evict_sessions(leaves))

    def _exit_hung(self) -> None:
        runs = ", ".join(str(entry["run"]) for entry in self.table.describe())
        logger.critical("one of these runs blocks the event loop: %s", runs or "none, a plugin does")
        exit_hung()

    def _cascade(self, run: ScopedRunId) -> None:
        """Children of a cancelled run are not all cancelled: whoever cancelled it died, or is about to do that."""
        if run not in self._cascading:
            self._cascading.add(run)
            self._background(self._cancel_children(run))

    async def _cancel_children(self, run: ScopedRunId) -> None:
        try:
            with contextlib.suppress(RunNotFound):
                await self.runs.cancel(run)
        except RETRYABLE as error:  # the next sweep finds it again
            logger.warning("the children of run %s could not be cancelled, trying again: %s", run, error)
        finally:
            self._cascading.discard(run)

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_current: WorkerProcess | None = None


def set_current_process(process: WorkerProcess) -> None:
    global _current
    _current = process


def current_process() -> WorkerProcess:
    """The WorkerProcess of this process. Raises RuntimeError outside of a worker."""
    if _current is None:
        raise RuntimeError("this is not a Runlane worker: start one with `runlane worker`")
    return _current
