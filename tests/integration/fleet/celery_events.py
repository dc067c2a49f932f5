"""What Celery's monitors see: the events of tasks, collected on a thread as Flower does."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu.exceptions import OperationalError

from runtime_core.broker import TRANSPORT_OPTIONS


class CeleryEvents:
    """A context manager; ``of(run)`` gives the event names of one task in order."""

    def __init__(self, redis_url: str) -> None:
        self._app = Celery("observer", broker=redis_url, set_as_current=False)
        self._app.conf.broker_transport_options = TRANSPORT_OPTIONS
        self._events: list[dict[str, Any]] = []
        self._receiver: Any = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10), "no event arrived: the receiver does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.should_stop = True
        self._thread.join(5)
        self._app.close()

    def of(self, run: str) -> list[str]:
        return [event["type"] for event in self._events if event.get("uuid") == run]

    def last(self, run: str) -> dict[str, Any]:
        return [event for event in self._events if event.get("uuid") == run][-1]

    def _listen(self) -> None:
        with self._app.connection() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"*": self._note})
            try:
                self._receiver.capture(limit=None, timeout=None, wakeup=True)
            except (OSError, OperationalError):
                return

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self._listening.set()
