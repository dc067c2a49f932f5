"""Doorbells on their way in: which queues are consumed, and what becomes of a doorbell before Celery sees a task.

A doorbell is a claim check. ``admit`` decides whether it starts an attempt, and it is asked before a Celery Request
exists: one that is refused leaves no trace in Celery's events (DESIGN §3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol
from uuid import uuid4

from celery.worker import state

from runtime_core.clock import boot_seconds
from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, AttemptStore
from runtime_core.store.connection import RETRYABLE
from workers.execution.attempts import Attempt, AttemptTable
from workers.partitions.ownership import Ownership
from workers.pool.asyncio_pool import TaskPool
from workers.pool.hub_queue import ConsumerRestart
from workers.transport import doorbell_queue

logger = logging.getLogger(__name__)


class DoorbellQueues:
    """Which doorbell queues this worker's Celery consumer reads. Changes happen on the hub thread.

    ``attach`` is called whenever the consumer has (re)connected; what was joined before is joined again.
    """

    def __init__(self, pool: TaskPool) -> None:
        self._pool = pool
        self._joined: set[int] = set()
        self._consumer: Any = None
        self._channel: Any = None
        #: ``boot_seconds()`` when the consumer last polled or had a reason not to. A new connection is none.
        self._polled = boot_seconds()
        self._cut_due = False

    def join(self, partition: int) -> None:
        self._pool.call_on_hub(self._join, partition)

    def leave(self, partition: int) -> None:
        self._pool.call_on_hub(self._leave, partition)

    def attach(self, consumer: Any) -> None:
        """The consumer is up. Hub thread."""
        self._consumer = consumer
        self._channel = channel = consumer.task_consumer.channel
        channel.free_slots = self._free_slots
        for partition in sorted(self._joined):
            self._add(partition)
        self._cut_soon()

    def _free_slots(self) -> int:
        """For doorbells that wait behind the one that has just come. If that found the worker idle, there are none but
        by chance: the next poll has them, and this one is not held up by a look.
        """
        executing = len(state.reserved_requests)
        return 0 if executing + self._pool.reserved <= 1 else self._pool.num_processes - executing

    def detach(self) -> None:
        self._consumer = self._channel = None

    def silent_for(self) -> float:
        """Seconds for which the consumer should have polled and has not; 0 while it has no queue or no free slot. Any
        thread.
        """
        now, channel = boot_seconds(), self._channel
        if not self._joined or (channel is not None and not channel.qos.can_consume()):
            self._polled = now
        elif channel is not None and channel.last_poll is not None:
            self._polled = max(self._polled, channel.last_poll)
        return now - self._polled

    def restart(self) -> None:
        """Have Celery consume over a new connection. Any thread."""
        self._pool.call_on_hub(self._restart)

    def _restart(self) -> None:
        raise ConsumerRestart("the consumer is silent")

    def _join(self, partition: int) -> None:
        self._joined.add(partition)
        if self._consumer is not None:
            self._add(partition)
            self._cut_soon()

    def _leave(self, partition: int) -> None:
        if partition not in self._joined:
            return
        self._joined.remove(partition)
        if self._consumer is not None and self._consumer.task_consumer is not None:
            self._consumer.cancel_task_queue(keys.queue(partition))
            self._cut_soon()

    def _cut_soon(self) -> None:
        """End the poll in flight, once for all the changes that are queued now: each cut is a round trip to Redis."""
        if not self._cut_due:
            self._cut_due = True
            self._pool.call_on_hub(self._cut)

    def _cut(self) -> None:
        self._cut_due = False
        if self._consumer is not None and self._consumer.task_consumer is not None:
            try:
                self._consumer.task_consumer.channel.cut_poll()
            except RETRYABLE as error:
                logger.warning("the poll in flight could not be cut, changes wait for its end: %s", error)

    def _add(self, partition: int) -> None:
        name = keys.queue(partition)
        queues = self._consumer.app.amqp.queues
        if name not in queues:
            queues.add(doorbell_queue(name))
        self._consumer.add_task_queue(name)


class _Host(Protocol):
    """What the intake needs of the worker process."""

    table: AttemptTable
    attempts: AttemptStore
    session_idle_s: float

    @property
    def config_version(self) -> int: ...

    async def provide_config(self, version: int) -> int:
        """Have a version of the agents config ready; returns the one that serves."""
        ...

    def owner_of(self, partition: int) -> Ownership | None: ...


class Intake:
    """1. A run enters the table before its admit is sent. If it is there already, this is a second doorbell: dropped.

    2. An admitted run, and one whose end this doorbell is to report, go on to Celery's stock handler; others leave the
       table without a trace. A doorbell that is dropped is rung again by the sweep if its run still needs one.
    """

    def __init__(self, host: _Host, pool: TaskPool) -> None:
        self._host = host
        self._pool = pool
        self._admitting: set[asyncio.Task[None]] = set()

    def receive(self, run: ScopedRunId, partition: int, accept: Callable[[], object]) -> None:
        """A doorbell arrived. Hub thread; returns at once. ``accept`` hands the message to Celery, on that thread."""
        ownership = self._host.owner_of(partition)
        if ownership is None:
            return
        attempt = Attempt(run, ownership)
        if not self._host.table.enter(attempt):
            return
        if not ownership.admits:  # frozen meanwhile by the loop thread, which may have looked before we entered
            self._host.table.leave(attempt)
            return
        self._pool.reserved += 1
        self._pool.call_on_loop(self._begin, attempt, accept)

    def _begin(self, attempt: Attempt, accept: Callable[[], object]) -> None:
        task = asyncio.create_task(self._admit(attempt, accept))
        self._admitting.add(task)
        task.add_done_callback(self._admitting.discard)

    async def _admit(self, attempt: Attempt, accept: Callable[[], object]) -> None:
        try:
            answer = await self._host.attempts.admit(
                attempt.ownership.lease,
                attempt.run,
                nonce=uuid4().hex,
                config_version=self._host.config_version,
                session_idle_s=self._host.session_idle_s,
            )
            attempt.admitted = boot_seconds()
            if isinstance(answer, Admission):
                answer = replace(answer, config_version=await self._host.provide_config(answer.config_version))
            attempt.answer = answer
        except (RunlaneError, *RETRYABLE) as error:
            logger.warning("run %s could not be admitted, its doorbell rings again: %s", attempt.run, error)
        except Exception:
            logger.exception("run %s could not be admitted", attempt.run)
        self._pool.call_on_hub(self._answered, attempt, accept)

    def _answered(self, attempt: Attempt, accept: Callable[[], object]) -> None:
        self._pool.reserved -= 1
        answer = attempt.answer
        if answer is None or not (isinstance(answer, Admission) or answer.announce):
            self._host.table.leave(attempt)
            return
        state.revoked.discard(attempt.run)  # the record decides, not Celery's memory of ids that it was to drop
        try:
            accept()
        except Exception:
            self._host.table.leave(attempt)  # if it was admitted, the sweep finds and repairs it
            raise


def partition_of_queue(queue: str) -> int | None:
    """The partition of a doorbell queue's name, None for any other name."""
    number = queue.removeprefix(f"{keys.INGRESS_QUEUE}.p")
    return int(number) if number != queue and number.isdigit() else None
