"""Celery's consumer, back soon after an outage of Redis."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as StockConsumer

from runtime_core.doorbell import SUBMIT_TASK

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach Redis again. Kombu waits 2, 4, 6, … 30 s: for so long after a long outage a
#: worker would serve nothing, and its leases would lapse, since they are renewed only while the consumer works.
RECONNECT_INTERVAL = 1
#: Seconds for which Celery's events of tasks gather before they are published. Celery publishes them at each turn of
#: the hub, two or three at a time, which costs a run 0.2 ms.
EVENTS_INTERVAL = 0.05
#: Events that may gather.
EVENTS_AT_MOST = 1000


#: What Celery says of each queue that joins or leaves, several times for some. Of partitions the keeper speaks, in one
#: line for all that change at once.
_OF_EACH_QUEUE = ("Started consuming from", "Canceling queue")
logging.getLogger(StockConsumer.__module__).addFilter(lambda record: not str(record.msg).startswith(_OF_EACH_QUEUE))


class Consumer(StockConsumer):
    """Without mingle and gossip, in which Celery's workers tell each other what nothing here asks for: the first costs
    a second at each reconnect, the second fails then, with a traceback in the log (Celery 5.7).
    """

    event_dispatcher: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self._flush_due = 0.0
        super().__init__(*args, **options | {"without_mingle": True, "without_gossip": True})

    def on_send_event_buffered(self) -> None:
        now = time.monotonic()
        if now >= self._flush_due:  # not a flag: a hub that is reset forgets its timers
            self._flush_due = now + EVENTS_INTERVAL
            self.event_dispatcher.buffer_limit = EVENTS_AT_MOST
            timer: Any = self.timer
            timer.call_after(EVENTS_INTERVAL, self._flush_events)

    def ensure_connected(self, conn: Any) -> Any:
        # An attribute, because Celery passes no intervals and kombu takes them from nowhere else.
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=RECONNECT_INTERVAL, interval_max=RECONNECT_INTERVAL
        )
        return super().ensure_connected(conn)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """As Celery's, but for its log of 30 lines, which holds whatever the client put into the message."""
        headers: dict[str, Any] = message.headers
        name, task_id = str(headers.get("task")), str(headers.get("id"))
        logger.error(
            "dropped the task %r (id %s, from %s) of the queue %r: no worker knows it; runs are submitted as %r",
            *(name, task_id, headers.get("origin"), message.delivery_info.get("routing_key"), SUBMIT_TASK),
        )
        message.reject_log_error(logger, self.connection_errors)
        if self.event_dispatcher:
            exception = f"NotRegistered({name!r})"
            self.event_dispatcher.send("task-failed", uuid=task_id, name=name, exception=exception)
