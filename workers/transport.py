"""Kombu's Redis transport, with what doorbells need beyond it.

1. *Doorbell queues*, those consumed without acknowledgement: the first message comes by BRPOP, the rest of a batch by
   one script, bounded by ``Channel.free_slots``.
2. *The poll can be cut* (``Channel.cut_poll``): a queue that joins or leaves an idle consumer takes effect at once,
   not when the BRPOP in flight times out.
3. *The ingress queue* ``runs`` is never BRPOPped: a script moves its messages to the unacknowledged ones in one step,
   so that a worker killed at any moment loses none. They are acknowledged late; a dead worker's are restored after
   the visibility timeout.
4. *A malformed message* is logged and dropped (from the ingress queue: set aside in ``runs.bad``). In stock kombu it
   ends the worker.
5. *Liveness*: ``Channel.last_poll`` says when a BRPOP was last sent or answered.

Importing this module makes it the transport of ``redis://``, ``rediss://`` and ``redis+socket://`` in this process.
(Celery's setting ``broker_transport`` would not do: kombu ignores it for ``redis+socket://``, and with it takes
``rediss://`` for a plain connection.)
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from queue import Empty
from sys import intern
from typing import Any, Final, Literal, cast

import kombu.transport
import redis
from celery.utils.log import get_logger
from kombu.entity import Queue
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import loads

from runtime_core.clock import boot_seconds
from runtime_core.store.keys import INGRESS_QUEUE

logger = get_logger(__name__)

#: Messages of the ingress queue that could not be read, for people; the newest BAD_KEPT of them.
BAD_QUEUE: Final = f"{INGRESS_QUEUE}.bad"
BAD_KEPT: Final = 1000
#: Seconds between two looks at the ingress queue: the latency it adds to a submission by a plain Celery client.
INGRESS_INTERVAL: Final = 0.25
#: Submissions that a process holds at most. They are short, and not counted as prefetched: a worker whose slots are
#: all taken still accepts runs.
INGRESS_IN_HAND: Final = 20
#: Doorbells fetched at once at most, which bounds the time the hub spends on them (about 0.5 ms each).
BATCH: Final = 50

#: Steps of priority that Celery clients know by default; one who sets a priority pushes onto another list.
_CLIENT_PRIORITY_STEPS: Final = (0, 3, 6, 9)
#: Errors of Redis or of the way to it, whatever was being delivered. Kombu's list of lost connections has KeyError too,
#: but that is what a message without some field raises.
_TROUBLE: Final = (
    *(kind for kind in stock.Transport.connection_errors if kind is not KeyError),
    *stock.Transport.channel_errors,
)
_LUA: Final = Path(__file__).parent / "lua"
_FETCH_DOORBELLS: Final = (_LUA / "fetch_doorbells.lua").read_text()
_FETCH_INGRESS: Final = (_LUA / "fetch_ingress.lua").read_text()


class QoS(stock.QoS):
    """Acknowledgements of the messages that were consumed with them; those of others are no-ops."""

    _delivered: OrderedDict[str, Any]
    _dirty: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Delivery tags of submissions in hand: written to Redis by the script that fetched them.
        self.submissions: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self.submissions:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if delivery_tag in self._delivered:
            self.submissions.discard(delivery_tag)
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if delivery_tag in self._delivered:
            self.submissions.discard(delivery_tag)
            super().reject(delivery_tag, requeue=requeue)

    def can_consume(self) -> bool:
        # As kombu's, but submissions do not count: however many wait to be retried, doorbells come.
        in_hand = len(self._delivered) - len(self._dirty) - len(self.submissions)
        return not self.prefetch_count or in_hand < self.prefetch_count


class Channel(stock.Channel):
    """See the module. Everything here runs on the hub's thread."""

    QoS = QoS

    #: How many more doorbells may be taken now; whoever consumes sets it after each connect. Without it no batches.
    free_slots: Callable[[], int] | None = None
    #: ``boot_seconds()`` of the last BRPOP sent or answered; None before the first. While ``qos.can_consume()`` is
    #: false or no queue is consumed, none is sent.
    last_poll: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Redis's number of the connection that BRPOPs, and the socket it belongs to.
        self._poll_client: tuple[Any, int] | None = None
        self._no_ack_queues: set[str] = set()
        super().__init__(*args, **kwargs)

    def cut_poll(self) -> bool:
        """End the BRPOP in flight, so that the next one has the queues of now. True if one was ended."""
        if not self._in_poll or self._poll_client is None:
            return False
        return bool(self.commands.client_unblock(self._poll_client[1]))

    def fetch_ingress(self) -> None:
        """Deliver what waits in the ingress queue, if it is consumed here; INGRESS_IN_HAND at most."""
        wanted = INGRESS_IN_HAND - len(self.qos.submissions)
        if self.closed or INGRESS_QUEUE not in self._active_queues or wanted <= 0:
            return
        lists = [f"{INGRESS_QUEUE}{self.sep}{step}" if step else INGRESS_QUEUE for step in _CLIENT_PRIORITY_STEPS]
        keys = [self.unacked_key, self.unacked_index_key, BAD_QUEUE, *lists]
        found, aside = self._run(_FETCH_INGRESS, keys, [wanted, time.time(), INGRESS_QUEUE, BAD_KEPT])
        if aside:
            logger.error(
                "%d messages of the queue %r are no Celery messages: moved to %r", aside, INGRESS_QUEUE, BAD_QUEUE
            )
        for raw in found:
            self._deliver_submission(raw)

    @cached_property
    def commands(self) -> redis.Redis:
        """A client for short commands, beside the connections that BRPOP and listen."""
        return self._create_client()

    # kombu's hooks

    @property
    def qos(self) -> QoS:
        return cast("QoS", super().qos)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _update_queue_cycle(self) -> None:
        self._queue_cycle.update([queue for queue in self.active_queues if queue != INGRESS_QUEUE])

    def _brpop_start(self, timeout: float | None = None) -> None:
        connection = self.client.connection
        if self._poll_client is None or self._poll_client[0] is not connection._sock:
            connection.send_command("CLIENT", "ID")
            number = connection.read_response()
            self._poll_client = (connection._sock, int(number))
        super()._brpop_start(timeout)
        if self._in_poll:
            self.last_poll = boot_seconds()

    def _brpop_read(self, **options: Any) -> Literal[True]:
        try:
            super()._brpop_read(**options)
        except Empty:
            self.last_poll = boot_seconds()
            raise
        except _TROUBLE:
            raise
        except Exception:
            logger.exception("dropped a malformed message of one of the queues %s", self.active_queues)
        self.last_poll = boot_seconds()
        self._fetch_doorbells()
        return True

    def _fetch_doorbells(self) -> None:
        if self.free_slots is None or self._closing:
            return
        wanted = min(self.free_slots(), BATCH)
        queues = [queue for queue in self._queue_cycle.consume(len(self.active_queues)) if queue in self._no_ack_queues]
        if wanted > 0 and queues:
            found = self._run(_FETCH_DOORBELLS, queues, [wanted])
            for key, raw in zip(found[::2], found[1::2], strict=True):
                self._deliver_or_drop(raw, key.decode())

    def _deliver_submission(self, raw: bytes) -> None:
        tag = ""
        try:
            message = loads(raw.decode())
            tag = message["properties"]["delivery_tag"]
            self.qos.submissions.add(tag)
            self.connection._deliver(message, INGRESS_QUEUE)
        except _TROUBLE:
            raise
        except Exception:
            logger.exception("a message of the queue %r cannot be read: moved to %r", INGRESS_QUEUE, BAD_QUEUE)
            self._set_aside(raw, tag)

    def _set_aside(self, raw: bytes, tag: str) -> None:
        with self.commands.pipeline() as pipe:
            pipe.lpush(BAD_QUEUE, raw)
            pipe.ltrim(BAD_QUEUE, 0, BAD_KEPT - 1)
            pipe.zrem(self.unacked_index_key, tag)
            pipe.hdel(self.unacked_key, tag)
            pipe.execute()
        self.qos.submissions.discard(tag)
        self.qos._delivered.pop(tag, None)

    def _deliver_or_drop(self, raw: bytes, queue: str) -> None:
        try:
            message = _sharing(json.loads(raw))
            for part in ("headers", "properties"):
                message[part] = _sharing(message[part])
            self.connection._deliver(message, queue)
        except _TROUBLE:
            raise
        except Exception:
            logger.exception("dropped a malformed message of the queue %r: %.500r", queue, raw)

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self.commands.register_script(script)(keys=keys, args=arguments)


def _sharing(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with the texts that other messages have, too: a worker holds a message as long as its run goes on."""
    return {intern(name): intern(value) if type(value) is str else value for name, value in fields.items()}


class Transport(stock.Transport):
    """See the module."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        loop.call_repeatedly(INGRESS_INTERVAL, self._fetch_ingress)

    def _fetch_ingress(self) -> None:
        for channel in list(self.cycle._channels):
            channel.fetch_ingress()


def doorbell_queue(name: str) -> Queue:
    """Celery's declaration of a partition's queue: without acknowledgements, and nothing to declare in Redis.

    Messages go to it by its name, through the default exchange; a binding would only be clutter.
    """
    return Queue(name, routing_key=name, no_ack=True, no_declare=True)


def ingress_queue() -> Queue:
    """Celery's declaration of the ingress queue."""
    return Queue(INGRESS_QUEUE, routing_key=INGRESS_QUEUE, no_declare=True)


for _scheme in ("redis", "rediss"):
    kombu.transport.TRANSPORT_ALIASES[_scheme] = f"{__name__}:Transport"
    kombu.transport._transport_cache.pop(_scheme, None)
