"""The Celery app that Flower monitors a fleet with: ``celery -A producer.flower_app flower``, see ``runlane flower``.

It needs Celery alone, no worker code: an operator's machine installs ``runlane[flower]``. Its settings come from the
environment: RUNLANE_REDIS_URL, and RUNLANE_PARTITIONS for the queues to show.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from celery import Celery
from celery.app.control import Control as StockControl
from celery.app.control import Inspect as StockInspect
from kombu.entity import Queue

from runtime_core.broker import broker_settings
from runtime_core.config.settings import Settings
from runtime_core.doorbell import EXECUTE_TASK, SUBMIT_TASK
from runtime_core.errors import ConfigError
from runtime_core.partitioning import DEFAULT_PARTITIONS
from runtime_core.store import keys

#: Stands among the workers that say what they consume, for the queues as such. No worker has such a name.
ALL_QUEUES: Final = "every queue of the fleet"


class Inspect(StockInspect):
    """Flower takes the names of queues from what workers consumed when it last asked them. Partitions move, and one
    without an owner is what an operator looks for; so each answer names all queues, beside the workers' own.
    """

    app: Any

    def active_queues(self) -> dict[str, Any] | None:
        answers: dict[str, Any] | None = super().active_queues()
        if self.destination is not None:  # the page of one worker
            return answers
        return {**(answers or {}), ALL_QUEUES: [{"name": queue.name} for queue in self.app.conf.task_queues]}


class Control(StockControl):
    app: Any

    @cached_property
    def inspect(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]  # the base has no annotation
        return self.app.subclass_with_self(Inspect, reverse="control.inspect")


def make_app(settings: Settings) -> Celery:
    """The app for the fleet that ``settings`` name."""
    app = Celery("runlane", set_as_current=False, control=f"{__name__}:Control")
    names = [keys.INGRESS_QUEUE, *map(keys.queue, range(settings.partitions or DEFAULT_PARTITIONS))]
    app.conf.update(
        broker_settings(settings.redis_url),
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        # What Flower's page of a task sends by hand, ``runlane.submit``, goes where any Celery client sends it.
        task_default_queue=keys.INGRESS_QUEUE,
        task_queues=[Queue(name, routing_key=name, no_declare=True) for name in names],
        enable_utc=True,
    )
    for name in (EXECUTE_TASK, SUBMIT_TASK):
        app.task(name=name)(_execute)  # Flower sends commands about tasks that its app knows
    return app


def _execute(*_: Any, **__: Any) -> None:
    raise RuntimeError("only a worker executes tasks: send this one to the queue `runs`")


try:
    app = make_app(Settings())
except ConfigError as error:
    raise SystemExit(f"runlane: {error}") from error
