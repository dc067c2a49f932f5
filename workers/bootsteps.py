"""Where Runlane hooks into the life of a Celery worker: one step for the process, one for each connection."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import wait
from typing import Any

from celery import bootsteps
from celery.exceptions import ImproperlyConfigured
from celery.worker import state

from runtime_core.clock import boot_seconds
from runtime_core.config.settings import Settings
from runtime_core.errors import RunlaneError
from runtime_core.store.keys import INGRESS_QUEUE
from workers.control.shutdown import install_signal_handlers
from workers.intake import DoorbellQueues
from workers.pool.asyncio_pool import TaskPool
from workers.process import WorkerProcess, current_process, set_current_process
from workers.tasks import SUBMIT_TASK

logger = logging.getLogger(__name__)

#: Seconds to wait, at the end, for a drain that nobody waited for before.
_LAST_DRAIN = 10.0
#: Seconds between two looks at what signals asked for, while the process opens.
_SIGNAL_POLL = 0.2
#: Of gc.set_threshold. With Python's own (700, 10, 10) the collector took a tenth of a no-op run's CPU.
_GC_THRESHOLD = (10_000, 20, 20)


class ProcessStep(bootsteps.StartStopStep):
    """Opens the WorkerProcess when the pool's loop runs, closes it before that loop stops."""

    requires = ("celery.worker.components:Pool",)

    def create(self, parent: Any) -> None:
        parent.app.amqp.queues.select([INGRESS_QUEUE])

    def start(self, parent: Any) -> None:
        pool = parent.pool
        if not isinstance(pool, TaskPool):
            raise ImproperlyConfigured("a Runlane worker runs on its own pool: start it without --pool (-P)")
        pool.slotless_tasks = {SUBMIT_TASK}
        self._process = process = WorkerProcess(Settings(), pool, DoorbellQueues(pool), parent.hostname)
        set_current_process(process)
        opening = pool.submit(process.open())
        while not opening.done():
            state.maybe_shutdown()  # a signal's wish; nobody else looks yet
            wait([opening], timeout=_SIGNAL_POLL)
        try:
            opening.result()
        except RunlaneError as error:
            logger.critical("%s", error)
            raise SystemExit(2) from error
        # What was imported stays: the collector need not look at it again and again, nor so often at what runs leave.
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)

    def stop(self, parent: Any) -> None:
        self._close(grace=self._process.drain_grace)

    def terminate(self, parent: Any) -> None:
        self._close(grace=0.0)

    def _close(self, grace: float) -> None:
        """Usually the drain has ended long ago; it has not if something other than a signal stops the worker."""
        process = self._process
        if not process.opened:
            return
        try:
            drained = process.pool.submit(process.drain(grace))
            deadline = boot_seconds() + grace + _LAST_DRAIN
            while not drained.done() and boot_seconds() < deadline:
                process.pool.serve_hub_calls(timeout=0.1)
            process.pool.submit(process.close()).result(_LAST_DRAIN)
        except (RuntimeError, TimeoutError) as error:
            logger.error("the worker stops without having released its partitions, they expire: %r", error)


class DoorbellStep(bootsteps.StartStopStep):
    """After each (re)connect: consume the queues of the held partitions again, and keep our signal handlers."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        install_signal_handlers(parent.controller)
        current_process().queues.attach(parent)

    def stop(self, parent: Any) -> None:
        current_process().queues.detach()
        if state.should_stop is not None and parent.event_dispatcher:
            parent.event_dispatcher.flush()  # of the last runs; their time to gather has not passed
