"""Celery's remote control with commands that take a while: the reply follows when the work has ended.

A command's handler runs on Celery's hub thread, which must turn. One that returns a Future is answered when that is
done; any other value is answered at once, as in stock Celery.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any, cast

from celery.app.control import Control as StockControl
from kombu import pidbox

from workers.process import current_process

logger = logging.getLogger(__name__)


class Node(pidbox.Node):
    def reply(self, data: dict[str, Any], exchange: Any, routing_key: Any, ticket: Any, **options: Any) -> None:
        (answer,) = data.values()
        if not isinstance(answer, Future):
            super().reply(data, exchange, routing_key, ticket, **options)
            return
        future = cast("Future[Any]", answer)

        def send() -> None:
            try:
                pidbox.Node.reply(self, {self.hostname: future.result()}, exchange, routing_key, ticket, **options)
            except Exception as error:  # what a call on the hub raises would stop the worker; who asked asks again
                logger.warning("a control command's reply could not be sent: %r", error)

        future.add_done_callback(lambda _: current_process().pool.call_on_hub(send))


class Mailbox(pidbox.Mailbox):
    node_cls = Node


class Control(StockControl):
    Mailbox = Mailbox
