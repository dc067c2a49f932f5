"""Calls from other threads that must run on the thread of Celery's hub.

Celery's consumer, acknowledgements and events belong to that thread. The queue wakes the hub through an eventfd that
it reads: latency is 0 to 2 ms, whereas what a ``hub.call_soon`` callback queues in turn may wait a whole poll (1 s).
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.utils.log import get_logger

logger = get_logger(__name__)


class ConsumerRestart(ConnectionError):
    """Raised by a call on the hub: Celery drops its connection to Redis and consumes over a new one."""


class HubQueue:
    """A queue of calls that outlives the hub's resets: what is queued while no hub runs is called when one does."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        # Never closed: a late writer must not hit a file that got its number.
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: The hub has been woken and has not begun to drain: whoever calls now need not wake it again.
        self._woken = False

    def register(self, hub: Any) -> None:
        """Let ``hub`` serve the queue; needed again after each ``hub.reset()``."""
        hub.add_reader(self._event, self.drain)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on the hub's thread, in the order of calls. From any thread."""
        self._calls.append((function, args))
        if not self._woken:
            self._wake()

    def drain(self) -> None:
        """Make the calls queued so far. Only on the hub's thread.

        An exception of one is logged and goes no further, since it would stop the worker; only ConsumerRestart, and
        Celery's own WorkerShutdown and WorkerTerminate, which mean just that, pass.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        # After the read, which would take the wake-up of one that comes between; before the calls are counted: one that
        # comes now is among them, or wakes the hub again.
        self._woken = False
        # Not "until empty": calls that queue more must not keep the hub from its sockets; the eventfd fires again.
        for _ in range(len(self._calls)):
            try:
                function, args = self._calls.popleft()
            except IndexError:  # a signal handler (cold shutdown) drained in between
                return
            try:
                function(*args)
            except (ConsumerRestart, WorkerShutdown, WorkerTerminate):
                self._wake()  # for the calls that are left
                raise
            except BaseException:
                logger.exception("call on the hub failed: %r", function)

    def wait(self, timeout: float) -> None:
        """Wait until something is queued, at most ``timeout`` seconds; for when the hub no longer runs."""
        select.select([self._event], [], [], timeout)

    def _wake(self) -> None:
        self._woken = True
        os.eventfd_write(self._event, 1)
