"""An event loop in virtual time, and the simulated processes whose code runs on it.

Every task, timer and callback carries its context (PEP 567), and the context says which simulated process it belongs
to. So a process can be killed, stopped and continued from outside, at any step of its code, as a signal would.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

#: The process whose code runs now; none for what stands for Redis, the network and the test itself.
current_process: ContextVar[SimulatedProcess | None] = ContextVar("simulated_process", default=None)

#: Which of its threads: the event loop's, Celery's hub, the renewal of leases.
current_thread: ContextVar[str] = ContextVar("simulated_thread", default="loop")


def _ignore(_: object) -> None:
    """Until somebody listens."""


#: Virtual seconds since the machine's boot at which each history begins.
BOOT = 1_000.0


class Stuck(Exception):
    """Nothing will ever happen again, and the history is not over."""


class SimulatedProcess:
    """What happens to a process: SIGKILL, SIGSTOP, SIGCONT. ``hung`` names threads that stand still alone."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self._loop = loop
        self.name = name
        self.alive = True
        self.stopped = False
        self.hung: str | None = None
        #: When it was last continued, virtual seconds: its code may be behind its own guards until then.
        self.continued = 0.0
        self._held: list[asyncio.Handle] = []
        #: Kept until the history is over: what is collected runs its ``finally``, and the dead clean up nothing.
        self._tasks: list[Task[Any]] = []

    def __repr__(self) -> str:
        state = "running" if self.alive else "dead"
        return f"<SimulatedProcess {self.name} {'stopped' if self.alive and self.stopped else state}>"

    def start(self, work: Coroutine[Any, Any, T], *, thread: str = "loop") -> Task[T]:
        """Run ``work`` as code of this process, on that thread of it."""
        context = copy_context()
        context.run(current_process.set, self)
        context.run(current_thread.set, thread)
        task = self._loop.create_task(work, context=context)
        task.add_done_callback(self._loop.look_at)
        return task

    def kill(self) -> None:
        """Nothing of it executes any more; requests on their way arrive."""
        self.alive = False
        self._held.clear()

    def stop(self) -> None:
        self.stopped = True

    def resume(self) -> None:
        """Timers that went off meanwhile are all due now."""
        self.stopped, self.hung = False, None
        self.continued = self._loop.time()
        held, self._held = self._held, []
        for handle in held:
            self._loop.run_soon(handle)

    def takes(self, handle: asyncio.Handle) -> bool:
        """Whether the handle is to run now; keeps those of a stopped process."""
        if not self.alive:
            return False
        thread = handle._context.get(current_thread, "loop")  # type: ignore[attr-defined]
        if self.stopped or thread == self.hung:
            self._held.append(handle)
            return False
        return True

    def keep(self, task: Task[Any]) -> None:
        self._tasks.append(task)
        if len(self._tasks) > 500:
            self._tasks = [task for task in self._tasks if not task.done()]


class VirtualLoop(asyncio.BaseEventLoop):
    """Time passes only when nothing is ready, and then at once up to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = BOOT
        self._queue: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        #: Called with what no code caught.
        self.on_error: Callable[[Exception], object] = _ignore
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_error)

    def time(self) -> float:
        return self._now

    def run_soon(self, handle: asyncio.Handle) -> None:
        self._queue.append(handle)

    def pass_time(self, seconds: float) -> None:
        """The whole machine stands still for so long."""
        self._now += seconds

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Future[T]:  # type: ignore[override]
        """There are no threads here: the function is called at once."""
        future: Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        while self._timers and (self._timers[0].cancelled() or not self._queue or self._timers[0].when() <= self._now):
            timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now = max(self._now, timer.when())
                self._queue.append(timer)
        if not self._queue:
            raise Stuck("no timer, no callback is left")
        for _ in range(len(self._queue)):
            handle = self._queue.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(current_process)  # type: ignore[attr-defined]
            if process is None or process.takes(handle):
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There is nothing outside to wait for."""

    @staticmethod
    def _make_task(loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> Task[Any]:
        task: Task[Any] = Task(work, loop=loop, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # those of the dead
        process = context.get(current_process) if context is not None else current_process.get()
        if process is not None:
            process.keep(task)
        return task

    def look_at(self, task: Task[Any]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.on_error(error)

    def _note_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        forgotten = context.get("future")  # an answer to the dead is nobody's error
        if isinstance(context.get("exception"), Exception) and (forgotten is None or isinstance(forgotten, Task)):
            self.on_error(context["exception"])
