"""Celery's consumer, back soon after an outage of Redis."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as StockConsumer

#: Seconds between two tries to reach Redis again. Kombu waits 2, 4, 6, … 30 s: for so long after a long outage a
#: worker would serve nothing, and its leases would lapse, since they are renewed only while the consumer works.
RECONNECT_INTERVAL = 1


#: What Celery says of each queue that joins or leaves, several times for some. Of partitions the keeper speaks, in one
#: line for all that change at once.
_OF_EACH_QUEUE = ("Started consuming from", "Canceling queue")
logging.getLogger(StockConsumer.__module__).addFilter(lambda record: not str(record.msg).startswith(_OF_EACH_QUEUE))


class Consumer(StockConsumer):
    """Without mingle and gossip, in which Celery's workers tell each other what nothing here asks for: the first costs
    a second at each reconnect, the second fails then, with a traceback in the log (Celery 5.7).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"without_mingle": True, "without_gossip": True})

    def ensure_connected(self, conn: Any) -> Any:
        # An attribute, because Celery passes no intervals and kombu takes them from nowhere else.
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=RECONNECT_INTERVAL, interval_max=RECONNECT_INTERVAL
        )
        return super().ensure_connected(conn)
