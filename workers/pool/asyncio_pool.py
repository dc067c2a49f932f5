"""The Celery pool that runs task bodies as coroutines of one asyncio loop.

Two threads share the work. Celery's hub thread accepts, starts and reports jobs; every callback into Celery happens
there and never raises. The loop thread runs bodies, their time limits and cancellations. A job crosses over twice:
``_spawn`` takes it to the loop, ``_complete`` brings it back through the HubQueue.

How a body ends decides what Celery reports, once:

| how it ended | reported |
|---|---|
| the tracer returned | its success or failure, also if a cancellation came too late or the body handled it |
| hard time limit | failure with TimeLimitExceeded |
| terminated by Celery | nothing more: the request announced it when it asked for it |
| terminated because the pool stops cold | nothing: another attempt will finish the run |
| the tracer raised | that failure; WorkerLostError for what is no Exception, as in Celery's other pools |

After a hard limit or a termination the job is reported only when its coroutine has really ended, because that is where
a run's finish is written. One that does not end within ``ending_grace`` is abandoned: it is reported, its slot is free,
and ``on_abandoned`` hears of it while its asyncio task (``job.task``) lives on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.concurrency.base import BasePool
from celery.utils.log import get_logger
from celery.worker import state

from workers.pool.greenlets import run_in_greenlet
from workers.pool.hub_queue import HubQueue
from workers.pool.job import Ending, Job, enter_job, follow_coroutines
from workers.pool.loop_thread import LoopThread

T = TypeVar("T")

logger = get_logger(__name__)


def _ignore(*_: Any) -> None:
    """Stands where Celery gives no callback."""


class TaskPool(BasePool):
    """See the module. ``limit`` is the number of slots: bodies that run at once."""

    signal_safe = False  # the stock handlers must not stop it from inside a signal handler
    body_can_be_buffer = True
    task_join_will_block = False
    uses_semaphore = False

    #: Seconds a cancelled body gets to end (to write its finish) before it is abandoned.
    ending_grace: ClassVar[float] = 5.0

    limit: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Jobs that were accepted from Celery and not yet reported, by number.
        self.jobs: dict[int, Job] = {}
        #: Bodies that gave their slot back, see ``without_slot``. Written by the loop thread only.
        self.waiting = 0
        #: Messages that are on their way to become jobs; whoever holds them back from Celery counts them here.
        self.reserved = 0
        #: Names of tasks so short that they need no slot: they start at once, whatever else runs.
        self.slotless_tasks: Collection[str] = frozenset()
        #: Called on the hub thread with each abandoned job.
        self.on_abandoned: Callable[[Job], Any] = _ignore
        self._numbers = itertools.count(1)
        self._queued: deque[Job] = deque()
        self._in_slots = 0
        self._slotless = 0
        self._hub_queue = HubQueue()
        self._thread = LoopThread("runlane-loop")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of this process, running from ``start`` to the end of ``stop`` in a thread of its own."""
        return self._thread.loop

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start ``coroutine`` on the loop, from any thread. RuntimeError once the pool has stopped."""
        return self._thread.submit(coroutine)

    def call_on_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on the loop, from any thread, in order. What it raises is logged."""
        self._thread.call(function, *args)

    def call_on_hub(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on Celery's hub thread within about 2 ms; from any thread, in order.

        What it raises is logged. While the connection to Redis is being restored the hub stands still; calls wait.
        """
        self._hub_queue.call(function, *args)

    def serve_hub_calls(self, timeout: float) -> None:
        """Do the hub's part while it no longer runs, for at most ``timeout`` seconds or until something came.

        For steps that wait for jobs in their ``stop`` or ``terminate``; on the hub's thread.
        """
        self._hub_queue.wait(timeout)
        self._hub_queue.drain()

    @contextmanager
    def without_slot(self) -> Generator[None, None, None]:
        """Give the current job's slot to another while its coroutine waits for something outside; loop thread only.

        It does not queue for a slot afterwards: for a while more bodies than ``limit`` may run.
        """
        self.waiting += 1
        self.call_on_hub(self._start_queued)
        try:
            yield
        finally:
            self.waiting -= 1

    # Celery's interface of a pool

    @property
    def num_processes(self) -> int:
        """How many messages Celery may hold at once; with worker_disable_prefetch this bounds the intake."""
        return self.limit + self.waiting + self._slotless - self.reserved

    def on_start(self) -> None:
        if self.app is not None:
            follow_coroutines(self.app)
        self._thread.start()

    def register_with_event_loop(self, loop: Any) -> None:
        """Celery calls this each time its consumer (re)starts, after the hub was reset."""
        self._hub_queue.register(loop)

    def on_apply(  # pyright: ignore[reportIncompatibleMethodOverride]  # the base has no annotation: it returns None
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[[Any], Any] | None = None,
        accept_callback: Callable[[int, float], Any] | None = None,
        error_callback: Callable[[ExceptionInfo], Any] | None = None,
        timeout_callback: Callable[[bool, float | None], Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        """Accept a body from Celery; hub thread. The first of ``args`` is the task's name."""
        job = Job(
            number=next(self._numbers),
            body=partial(target, *(args or ()), **(kwargs or {})),
            takes_slot=not args or args[0] not in self.slotless_tasks,
            on_accepted=accept_callback,
            on_success=callback or _ignore,
            on_failure=error_callback or _ignore,
            on_timeout=timeout_callback or _ignore,
            soft_limit=soft_timeout or self.options.get("soft_timeout"),
            hard_limit=timeout or self.options.get("timeout"),
        )
        self.jobs[job.number] = job
        if job.takes_slot:
            self._queued.append(job)
            self._start_queued()
        else:
            self._slotless += 1
            self._start(job)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the job of that number, which Celery has announced as revoked or cancelled; hub thread."""
        job = self.jobs.get(pid)
        if job is not None and not job.ended:
            job.announced = True
            self.call_on_loop(self._end, job, Ending.TERMINATE)

    def stop(self) -> None:
        # Celery's signal handler of a cold shutdown calls it, too. The loop goes on: steps that stop before the pool
        # does, in ``terminate``, still need it.
        if state.should_terminate not in (None, False):
            self._cancel_jobs()
        else:
            super().stop()

    def on_stop(self) -> None:
        """Warm: wait for every job. The hub no longer runs, so its part is done here."""
        while self.jobs:
            self.serve_hub_calls(timeout=0.5)
        self.serve_hub_calls(timeout=0)
        self._thread.stop()

    def on_terminate(self) -> None:
        """Cold: cancel every job, wait for them as long as ``ending_grace``, forget those that never started."""
        self._cancel_jobs()
        self._thread.stop()

    def _cancel_jobs(self) -> None:
        for job in self._queued:
            self.jobs.pop(job.number, None)
        self._queued.clear()
        try:
            for job in list(self.jobs.values()):
                self.call_on_loop(self._end, job, Ending.TERMINATE)
        except RuntimeError:  # the loop has stopped before, and the jobs with it
            return
        deadline = time.monotonic() + self.ending_grace + 1.0
        while self.jobs and time.monotonic() < deadline:
            self.serve_hub_calls(timeout=0.1)

    def grow(self, n: int = 1) -> None:
        """Add ``n`` slots."""
        self.limit += n
        self._start_queued()

    def shrink(self, n: int = 1) -> None:
        """Remove ``n`` slots, down to one; bodies that run go on."""
        self.limit = max(1, self.limit - n)

    def _get_info(self) -> dict[str, Any]:
        return super()._get_info() | {
            "running": self._in_slots + self._slotless,
            "waiting": self.waiting,
            "queued": len(self._queued),
            "reserved": self.reserved,
        }

    # hub thread

    def _start_queued(self) -> None:
        while self._queued and self._in_slots - self.waiting < self.limit:
            self._in_slots += 1
            self._start(self._queued.popleft())

    def _start(self, job: Job) -> None:
        if job.on_accepted is not None:
            try:
                job.on_accepted(job.number, time.monotonic())
            except Exception:
                logger.exception("a job was accepted, but Celery could not take note")
        self.call_on_loop(self._spawn, job)

    def _complete(self, job: Job) -> None:
        self.jobs.pop(job.number, None)
        if job.takes_slot:
            self._in_slots -= 1
        else:
            self._slotless -= 1
        # First in the queue of calls, so that it follows even if reporting raises.
        self.call_on_hub(self._start_queued)
        if job.abandoned:
            logger.error("%r did not end %g s after it was cancelled; its slot is free again", job, self.ending_grace)
            self.call_on_hub(self.on_abandoned, job)
        if job.announced:
            return
        if job.ended and job.error is None and not job.abandoned:
            job.on_success(job.result)
        elif job.ending is Ending.HARD:
            # Not on_timeout(False): its event shows "ExceptionWithTraceback()", Celery 5.6 sends none.
            job.on_failure(_failure(TimeLimitExceeded(job.hard_limit)))
        elif job.ending is not Ending.TERMINATE and job.error is not None:
            job.on_failure(job.error)

    # loop thread

    def _spawn(self, job: Job) -> None:
        job.task = self.loop.create_task(self._run(job))
        limits = [
            self.loop.call_later(seconds, self._end, job, ending)
            for seconds, ending in ((job.soft_limit, Ending.SOFT), (job.hard_limit, Ending.HARD))
            if seconds
        ]
        job.task.add_done_callback(lambda _: self._ended(job, limits))

    async def _run(self, job: Job) -> None:
        enter_job(job)
        try:
            if job.ending is None:
                job.result = await run_in_greenlet(job.body)
        except BaseException as error:  # all of them: SystemExit would stop the loop
            job.error = _failure(error)

    def _end(self, job: Job, ending: Ending) -> None:
        if job.ended or job.ending in (Ending.HARD, Ending.TERMINATE):
            return
        job.ending = ending
        job.soft_limit_due = ending is Ending.SOFT and job.on_ending is None
        if ending is Ending.SOFT:
            self.call_on_hub(job.on_timeout, True, job.soft_limit)
        else:
            self.loop.call_later(self.ending_grace, self._abandon, job)
        if job.on_ending is not None:
            job.on_ending(ending)
        elif job.task is not None:
            job.task.cancel()

    def _abandon(self, job: Job) -> None:
        if not job.ended:
            job.ended = job.abandoned = True
            self.call_on_hub(self._complete, job)

    def _ended(self, job: Job, limits: list[asyncio.TimerHandle]) -> None:
        for limit in limits:
            limit.cancel()
        if job.ended:
            return
        if job.error is None and job.task is not None and job.task.cancelled():
            job.error = _failure(asyncio.CancelledError())
        job.ended = True
        self.call_on_hub(self._complete, job)


def _failure(error: BaseException) -> ExceptionInfo:
    """``error`` as Celery's requests take it; what is no Exception becomes WorkerLostError, as in its other pools."""
    try:
        if isinstance(error, Exception):
            raise error
        raise WorkerLostError(repr(error)) from error
    except Exception as failure:
        info = ExceptionInfo()
        # Bare: the wrapper that billiard puts around it shows as "ExceptionWithTraceback()" in Celery's events.
        info.exception = failure  # pyright: ignore[reportAttributeAccessIssue]
        return info
