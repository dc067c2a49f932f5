"""An asyncio loop in a thread of its own, that nothing a coroutine raises can stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from celery.utils.log import get_logger

T = TypeVar("T")

logger = get_logger(__name__)

#: Seconds that tasks get to end after they were cancelled at stop. Runs have ended before; these are leftovers.
STOP_GRACE: Final = 2.0


class LoopThread:
    """Owns ``loop`` and the daemon thread that runs it, from ``start`` to ``stop``."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._stopping = False
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        #: The loop has been woken for calls and has not begun to make them.
        self._woken = False

    def start(self) -> None:
        """Returns when the loop runs."""
        running = threading.Event()
        self.loop.call_soon_threadsafe(running.set)
        self._thread.start()
        running.wait()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start ``coroutine`` on the loop, from any thread. RuntimeError once the loop has stopped."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()
            raise

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on the loop's thread, from any thread, in the order of calls.

        Many calls cost one wake-up, which is what is dear: a system call, and the other thread's turn. RuntimeError
        once the loop has stopped.
        """
        self._calls.append((function, args))
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._make_calls)
            except RuntimeError:
                self._woken = False
                raise

    def stop(self) -> None:
        """Cancel what still runs, wait for it at most STOP_GRACE, close the loop. May be called twice."""
        if self._thread.is_alive():
            self._stopping = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(STOP_GRACE + 1.0)

    def _make_calls(self) -> None:
        self._woken = False  # before the calls are counted: one that comes now is among them, or wakes the loop again
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("call on the loop failed: %r", function)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except BaseException:
                # asyncio lets SystemExit and KeyboardInterrupt of any task out of the loop; the task has it too.
                logger.critical("a coroutine tried to end the worker process; it goes on", exc_info=True)
        leftovers = asyncio.all_tasks(self.loop)
        for task in leftovers:
            task.cancel()
        try:
            if leftovers:
                self.loop.run_until_complete(asyncio.wait(leftovers, timeout=STOP_GRACE))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        except BaseException:
            logger.exception("a coroutine did not end in order when the loop stopped")
        finally:
            self.loop.close()
