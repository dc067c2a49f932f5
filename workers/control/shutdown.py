"""Signals: each begins a drain; Celery's own shutdown begins when it has ended.

| signal | grace for what runs | then |
|---|---|---|
| SIGTERM, SIGINT, SIGHUP, control.shutdown | RUNLANE_DRAIN_GRACE_S | Celery's warm shutdown |
| the same again, SIGQUIT | RUNLANE_SOFT_SHUTDOWN_S, 0 by default | Celery's cold shutdown |
| SIGQUIT again | – | Celery's own handler |

REMAP_SIGTERM=SIGQUIT in the environment makes SIGTERM a SIGQUIT, as with plain Celery.
"""

from __future__ import annotations

import logging
import signal
from concurrent.futures import Future
from types import FrameType
from typing import Any

from celery.apps.worker import REMAP_SIGTERM, install_worker_term_hard_handler
from celery.worker import state

from workers.process import current_process

logger = logging.getLogger(__name__)

_draining = False


def install_signal_handlers(worker: Any) -> None:
    """Take the place of Celery's handlers; after them, and again after each reconnect. Main thread."""

    def warm(number: int, _: FrameType | None) -> None:
        if _draining:
            cold(number, None)
        else:
            begin_drain()

    def cold(number: int, _: FrameType | None) -> None:
        install_worker_term_hard_handler(worker)  # for the next SIGQUIT, should this one hang
        begin_drain(grace=float(worker.app.conf.worker_soft_shutdown_timeout or 0), cold=True)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, warm)
    if REMAP_SIGTERM == "SIGQUIT":
        signal.signal(signal.SIGTERM, cold)
    if not _draining:
        signal.signal(signal.SIGQUIT, cold)


def begin_drain(*, grace: float | None = None, cold: bool = False) -> None:
    """Start to drain and return; Celery is told to stop when the drain has ended. Any thread, signal handlers too."""
    global _draining
    _draining = True
    process = current_process()
    draining = process.pool.submit(process.drain(process.drain_grace if grace is None else grace))

    def stop(_: Future[None]) -> None:
        if cold:
            state.should_terminate = 1
        elif state.should_stop in (None, False):
            state.should_stop = 0
        process.pool.call_on_hub(_wake)

    draining.add_done_callback(stop)


def _wake() -> None:
    """The hub looks at state.should_stop between its polls."""
