"""Worker processes as children of this one: start, readiness, end. Used by ``up``, ``demo`` and tests."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from runtime_core.config.loader import load_config
from runtime_core.config.settings import Settings
from runtime_core.errors import RunlaneError
from runtime_core.store.connection import connect
from runtime_core.store.leases import LeaseStore

#: Seconds. Celery and the plugins are imported (seconds on two slow cores), then the settling time passes.
READY_WITHIN_S = 60.0
#: Seconds between two looks at leases and processes while workers start.
_LOOK_EVERY_S = 0.05
_WATCH_EVERY_S = 0.2
#: Lines of a dead worker's log that its error shows.
_LAST_WORDS = 20
_PR_SET_PDEATHSIG = 1


def worker_command(*, name: str | None = None, log_level: str = "info", extra: Sequence[str] = ()) -> list[str]:
    """The command line of a worker: plain Celery. Raises ModuleNotFoundError if the extra is not installed."""
    for package in ("greenlet", "celery"):  # the first is what only workers need, and names their extra
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"a worker needs {package}", name=package)
    hostname = ["--hostname", name if "@" in name else f"{name}@%h"] if name else []
    return [
        *(sys.executable, "-m", "celery", "-A", "workers.app", "worker"),
        *("--loglevel", log_level),
        *hostname,
        *extra,
    ]


def worker_environment(
    *,
    redis_url: str | None = None,
    config: Path | None = None,
    concurrency: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """This process's environment with the settings of a worker.

    Raises ConfigError if a setting or the agents file is wrong: better here than in a child's log.
    """
    changed = dict(extra or {})
    if redis_url is not None:
        changed["RUNLANE_REDIS_URL"] = redis_url
    if config is not None:
        load_config(config)
        changed["RUNLANE_CONFIG"] = str(config.resolve())
    if concurrency is not None:
        changed["RUNLANE_CONCURRENCY"] = str(concurrency)
    settings = {name.removeprefix("RUNLANE_").lower(): value for name, value in changed.items()}
    Settings(**{name: value for name, value in settings.items() if name in Settings.model_fields})
    return dict(os.environ) | changed


class WorkersFailed(RunlaneError):
    """A worker process ended, or did not become ready."""


class WorkerProcess:
    """One worker as a child process; a context manager that starts and stops it.

    It leads a process group of its own, so a terminal's Ctrl-C reaches only its parent, and it is killed when the
    thread that started it ends: start it from the main thread.
    """

    def __init__(self, name: str, environment: Mapping[str, str], log: Path, *, log_level: str = "info") -> None:
        self.name = name
        self.log = log
        self._environment = environment
        self._log_level = log_level
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        process = self._process
        state = "not started" if process is None else f"pid={process.pid} exit={process.poll()}"
        return f"<WorkerProcess {self.name} {state}>"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RunlaneError(f"worker {self.name} was not started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives."""
        return None if self._process is None else self._process.poll()

    def start(self) -> Self:
        parent = os.getpid()
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                worker_command(name=self.name, log_level=self._log_level),
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return self

    def terminate(self) -> None:
        """Ask it to finish its runs and leave; does not wait."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, within: float = 40.0) -> None:
        """SIGTERM, then after ``within`` seconds SIGKILL to its process group. Returns when it is gone."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def check(self) -> None:
        """Raise WorkersFailed with the end of its log if it has ended."""
        if self.exit_code is not None:
            raise WorkersFailed(f"worker {self.name} ended with code {self.exit_code}\n{self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"  | {line}" for line in lines[-_LAST_WORDS:]) or "  (its log is empty)"


class WorkerFleet:
    """Several workers of one store; a context manager that starts them all and stops them all."""

    def __init__(self, workers: Sequence[WorkerProcess], *, stop_within: float = 40.0) -> None:
        self.workers = workers
        self._stop_within = stop_within

    def __enter__(self) -> Self:
        try:
            for worker in self.workers:
                worker.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop them at the same time: SIGTERM to all, then wait for each within one common bound."""
        for worker in self.workers:
            worker.terminate()
        deadline = time.monotonic() + self._stop_within
        for worker in self.workers:
            worker.stop(max(0.0, deadline - time.monotonic()))

    def check(self) -> None:
        """Raise WorkersFailed if one of them has ended."""
        for worker in self.workers:
            worker.check()

    async def watch(self) -> NoReturn:
        """Wait for ever; raises WorkersFailed when one of them ends."""
        while True:
            self.check()
            await asyncio.sleep(_WATCH_EVERY_S)

    async def ready(self, redis_url: str, partitions: int) -> Counter[str]:
        """Wait until every partition is owned and every worker owns some; returns partitions per worker.

        Raises WorkersFailed if a worker ends or the time is up.
        """
        redis = connect(redis_url)
        enough = min(len(self.workers), partitions)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while True:
                    self.check()
                    view = await LeaseStore(redis).observe(partitions)
                    owned = Counter(
                        lease.worker for lease in view.leases if lease.owner and lease.expires_ms > view.now_ms
                    )
                    if owned.total() == partitions and len(owned) >= enough:
                        return owned
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            logs = "\n".join(f"{worker.name}:\n{worker.last_words()}" for worker in self.workers)
            raise WorkersFailed(f"the workers were not ready within {READY_WITHIN_S:.0f} s\n{logs}") from None
        finally:
            await redis.aclose()
