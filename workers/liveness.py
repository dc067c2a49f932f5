"""Whether this process works: its event loop, Celery's hub, and the consumer of doorbells.

A process of which a part does not work must lose its partitions: leases are renewed, and partitions taken, only while
``works`` is true (DESIGN §4). After a reconnect Celery's consumer can fall silent while everything else looks well
(https://github.com/celery/celery/issues/8030); it is restarted.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from typing import Protocol

from runtime_core.clock import boot_seconds
from runtime_core.store.timing import LEASE_TTL_MS, RENEW_INTERVAL
from workers.monitoring.metrics import LOOP_LAG

logger = logging.getLogger(__name__)

#: Seconds after which a silent event loop or hub counts as hung.
_HUNG_AFTER = 3.0
#: Seconds without a poll after which a consumer that should poll is silent: a BRPOP's own second and a margin.
_SILENT_AFTER = 1.0 + 1.5
#: Seconds of silence, or since the last restart, after which it is restarted.
_RESTART_AFTER = 5.0
_BEAT = 0.5
#: sysexits.h: an internal software error.
_EXIT_HUNG = 70


class Consumer(Protocol):
    """The consumer of doorbells, as seen from here."""

    def silent_for(self) -> float: ...

    def restart(self) -> None: ...


def exit_hung() -> None:
    """End this process at once, having written the traceback of each thread to its standard error."""
    try:
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)  # Celery replaces sys.stderr
    finally:
        os._exit(_EXIT_HUNG)


class Liveness:
    """1. ``works`` is false while the event loop or the hub is hung or the consumer silent; ``problem`` says which.

    2. A consumer that stays silent is restarted.
    3. ``watch_loop``, called every RENEW_INTERVAL by the renewal thread, calls ``on_hung`` when the loop has been hung
       for so long that every lease has expired. It counts its own calls, so that a process that was stopped as a whole
       (SIGSTOP) goes on when it is continued.
    """

    def __init__(
        self,
        consumer: Consumer,
        call_on_hub: Callable[[Callable[[], None]], None],
        on_hung: Callable[[], object],
    ) -> None:
        self._consumer = consumer
        self._call_on_hub = call_on_hub
        self._on_hung = on_hung
        self._loop_beat = self._hub_beat = boot_seconds()
        self._hub_answered = True
        self._restarted = 0.0
        self._watched_beat = 0.0
        self._watched = 0
        #: Since when one part or another has not worked; None if all do.
        self._troubled_since: float | None = None
        #: A worker that drains consumes no more; it needs its loop alone.
        self.draining = False

    def works(self) -> bool:
        """Any thread."""
        return self.problem() is None

    def problem(self) -> str | None:
        """Which part does not work; None if all do. Any thread."""
        now = boot_seconds()
        if self.loop_hangs:
            return "the event loop does not turn: code of an agent blocks it"
        if self.draining:
            return None
        if now - self._hub_beat >= _HUNG_AFTER:
            return "Celery's hub does not turn, it may be reconnecting to Redis"
        if self._consumer.silent_for() >= _SILENT_AFTER:
            return "the consumer does not poll its queues"
        return None

    @property
    def loop_hangs(self) -> bool:
        """Any thread."""
        return boot_seconds() - self._loop_beat >= _HUNG_AFTER

    def problem_lasts(self) -> float:
        """Seconds for which one part or another has not worked. Any thread."""
        since = self._troubled_since
        return 0.0 if since is None else boot_seconds() - since

    def watch_loop(self) -> None:
        """See the class. Renewal thread."""
        turned = self._loop_beat != self._watched_beat
        self._watched_beat = self._loop_beat
        self._watched = 0 if turned else self._watched + 1
        silent = self._watched * RENEW_INTERVAL
        if silent >= _HUNG_AFTER + LEASE_TTL_MS / 1000:
            logger.critical("the event loop has not turned for %g s: this process exits", silent)
            self._on_hung()

    async def beat(self) -> None:
        """Until cancelled: beat for the loop, ask the hub to beat, restart a silent consumer."""
        while True:
            self._loop_beat = boot_seconds()
            if self._hub_answered:  # it stands still during an outage: calls would pile up
                self._hub_answered = False
                self._call_on_hub(self._note_hub)
            self._restart_if_silent()
            if self.problem() is None:
                self._troubled_since = None
            elif self._troubled_since is None:
                self._troubled_since = self._loop_beat
            slept = boot_seconds()
            await asyncio.sleep(_BEAT)
            LOOP_LAG.observe(max(0.0, boot_seconds() - slept - _BEAT))

    def _restart_if_silent(self) -> None:
        now, silent = self._loop_beat, self._consumer.silent_for()
        hub_turns = now - self._hub_beat < _HUNG_AFTER  # else it reconnects, or cannot be reached
        if min(silent, now - self._restarted) >= _RESTART_AFTER and hub_turns and not self.draining:
            logger.error("the consumer has not polled its queues for %.1f s: it is restarted", silent)
            self._restarted = now
            self._consumer.restart()

    def _note_hub(self) -> None:
        self._hub_beat = boot_seconds()
        self._hub_answered = True
