"""Plain functions in threads, and the knowledge which of them outlive the run that called them.

A thread cannot be cancelled. When a run ends early, a tool of it may go on, and the host of the run has to know: the
session is not free before that code has ended. Threads are daemons, so that a tool that hangs does not keep the
process from exiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime_core.ids import ScopedRunId


class LiveThreads:
    """Counts the threads of each run. Used on one event loop at a time."""

    def __init__(self) -> None:
        self._live: dict[ScopedRunId, int] = {}
        self._waiting: dict[ScopedRunId, list[asyncio.Future[None]]] = {}

    def __repr__(self) -> str:
        return f"<LiveThreads {self._live}>"

    def alive(self, run: ScopedRunId) -> bool:
        """Whether a thread that the run started still executes."""
        return run in self._live

    async def ended(self, run: ScopedRunId) -> None:
        """Return when no thread of the run executes any more."""
        while self.alive(run):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(run, []).append(future)
            await future

    async def call(self, run: ScopedRunId, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns or raises, SystemExit included. Cancelling the wait leaves the thread alive."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        context = contextvars.copy_context()

        def body() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = context.run(function, *arguments), None
            except BaseException as error:  # it belongs to the waiting run, whatever it is
                outcome = None, error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(deliver, outcome)

        def deliver(outcome: tuple[Any, BaseException | None]) -> None:
            self._leave(run)
            if not answer.done():
                answer.set_result(outcome)

        self._live[run] = self._live.get(run, 0) + 1
        threading.Thread(target=body, name=f"runlane-tool-{run}", daemon=True).start()
        value, error = await answer
        if error is not None:
            raise error
        return value

    def _leave(self, run: ScopedRunId) -> None:
        self._live[run] -= 1
        if self._live[run] == 0:
            del self._live[run]
            for future in self._waiting.pop(run, []):
                if not future.done():
                    future.set_result(None)
