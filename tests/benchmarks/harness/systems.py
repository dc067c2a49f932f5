"""A system on the stage: its own Redis, its worker started by its public command, and a caller in a third process."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from runtime_core.embedded import EmbeddedRedis
from runtime_core.partitioning import DEFAULT_PARTITIONS
from tests.benchmarks.harness import usage
from tests.benchmarks.harness.children import Caller, Child, ChildFailed
from tests.benchmarks.harness.venvs import python_of

#: Jobs before anything is measured: imports, connections, scripts and caches are warm then.
_WARM_UP = 200


@dataclass
class Stage:
    redis: EmbeddedRedis
    caller: Caller
    #: Of the workers; what they start counts too.
    workers: list[int] = field(default_factory=list[int])

    def warm_up(self, job: str = "noop", count: int = _WARM_UP, **more: Any) -> None:
        """One alone first: it waits until the worker is there. A worker that is just starting may lose it: saq takes a
        job that it finds then for one of a dead worker, and aborts it.
        """
        try:
            self.caller.ask("throughput", job=job, count=1, **more)
        except ChildFailed:
            self.caller.ask("throughput", job=job, count=1, **more)
        self.caller.ask("throughput", job=job, count=count, **more)

    def throughput(self, job: str, count: int, **more: Any) -> dict[str, float]:
        """Runs (or jobs) per second until every result is known, and CPU milliseconds per run."""
        worker, server = usage.cpu_s(self.workers), usage.cpu_s([self.redis.pid])
        answer = self.caller.ask("throughput", job=job, count=count, **more)
        return {
            "per_s": count / answer["seconds"],
            "worker_ms": (usage.cpu_s(self.workers) - worker) / count * 1000,
            "redis_ms": (usage.cpu_s([self.redis.pid]) - server) / count * 1000,
            "caller_ms": answer["cpu_s"] / count * 1000,
        }


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How a peer is started; its programs are in ``peers/``."""

    environment: str
    module: str
    #: Arguments of its worker's interpreter.
    worker: Sequence[str]

    @contextmanager
    def stage(self, *, worker: bool = True, slots: int = 200) -> Generator[Stage]:
        python = python_of(self.environment)
        with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as redis:
            variables = {
                "BENCH_REDIS_URL": redis.url,
                "BENCH_SLOTS": str(slots),
                "PATH": f"{python.parent}:/usr/bin:/bin",
            }
            log = Path(folder) / "log"
            with Caller(python, self.module, log, variables) as caller:
                if not worker:
                    yield Stage(redis, caller)
                    return
                with Child([str(python), *self.worker], log, variables) as process:
                    yield Stage(redis, caller, [process.pid])


def _celery(*pool: str) -> Peer:
    module = "tests.benchmarks.peers.celery_tasks"
    quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
    return Peer(
        environment="celery",
        module=module,
        worker=("-m", "celery", "-A", module, "worker", "--pool", *pool, *quiet),
    )


_DRAMATIQ = "tests.benchmarks.peers.dramatiq_actors"
_TASKIQ = "tests.benchmarks.peers.taskiq_tasks"
_SAQ = "tests.benchmarks.peers.saq_jobs"
_RAW = "tests.benchmarks.peers.raw_jobs"
_RAW_STREAM = "tests.benchmarks.peers.raw_stream"
PEERS: Mapping[str, Peer] = {
    "celery solo": _celery("solo"),
    "celery threads": _celery("threads", "--concurrency", "50"),
    "dramatiq": Peer(
        environment="dramatiq",
        module=_DRAMATIQ,
        worker=("-m", "dramatiq", _DRAMATIQ, "--processes", "1", "--threads", "8", "--skip-logging"),
    ),
    "taskiq": Peer(
        environment="taskiq",
        module=_TASKIQ,
        worker=(
            *("-m", "taskiq", "worker", f"{_TASKIQ}:broker", "--workers", "1", "--log-level", "WARNING"),
            *("--max-async-tasks", "100", "--max-prefetch", "100"),
        ),
    ),
    "saq": Peer(environment="saq", module=_SAQ, worker=("-m", _SAQ)),
    "raw": Peer(environment="raw", module=_RAW, worker=("-m", _RAW)),
}
#: Not of jobs but of events.
RAW_STREAM = Peer(environment="raw", module=_RAW_STREAM, worker=("-m", _RAW_STREAM))


class Runlane:
    """Ours, as a user starts it: record, log, pub/sub, fences and Celery's events are all on."""

    ASYNC = "tests.benchmarks.ours.async_calls"
    SYNC = "tests.benchmarks.ours.sync_calls"

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        calls: str = ASYNC,
        partitions: int = DEFAULT_PARTITIONS,
        concurrency: int = 100,
        workers: int = 1,
    ) -> None:
        self._config = config
        self._calls = calls
        self._partitions = partitions
        self._concurrency = concurrency
        self._workers = workers

    @contextmanager
    def stage(self) -> Generator[Stage]:
        with self.idle() as (redis, start), start() as workers, caller(redis, self._calls) as calls:
            yield Stage(redis, calls, workers)

    @contextmanager
    def idle(self) -> Generator[tuple[EmbeddedRedis, Any]]:
        """Its Redis, and what starts the workers: a context manager that gives their process ids."""
        with tempfile.TemporaryDirectory() as name, EmbeddedRedis() as redis:

            @contextmanager
            def start() -> Generator[list[int]]:
                with WorkerFleet(self._processes(Path(name), redis.url), stop_within=5.0) as fleet:
                    asyncio.run(self._ready(fleet, redis.url))
                    try:
                        yield [worker.pid for worker in fleet.workers]
                    except ChildFailed:
                        fleet.check()  # a caller whose worker has ended waits in vain: that is the better reason
                        raise

            yield redis, start

    async def _ready(self, fleet: WorkerFleet, url: str) -> None:
        await fleet.ready(url, self._partitions)

    def _processes(self, folder: Path, url: str) -> list[WorkerProcess]:
        file = folder / "agents.yaml"
        file.write_text(yaml.safe_dump(dict(self._config)))
        environment = worker_environment(
            redis_url=url,
            config=file,
            concurrency=self._concurrency,
            extra={
                "RUNLANE_PARTITIONS": str(self._partitions),
                "RUNLANE_EXPECT_WORKERS": str(self._workers),
                # What runs at the end was measured, or is a backlog that stands.
                "RUNLANE_DRAIN_GRACE_S": "0.5",
                "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
            },
        )
        return [WorkerProcess(f"w{number}", environment, folder / f"w{number}.log") for number in range(self._workers)]


@contextmanager
def caller(redis: EmbeddedRedis, calls: str) -> Generator[Caller]:
    """One of our clients in a process of its own."""
    variables = {"BENCH_REDIS_URL": redis.url}
    with (
        tempfile.TemporaryDirectory() as folder,
        Caller(sys.executable, calls, Path(folder) / "log", variables) as process,
    ):
        yield process
