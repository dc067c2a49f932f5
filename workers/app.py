"""The Celery app: ``celery -A workers.app worker``. Settings come from the environment, see config/settings.py."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import cast

from celery import Celery
from celery.signals import setup_logging

from runtime_core import logs
from runtime_core.broker import broker_settings
from runtime_core.config.settings import Settings
from runtime_core.errors import ConfigError
from runtime_core.store.keys import INGRESS_QUEUE
from workers.bootsteps import DoorbellStep, ProcessStep
from workers.transport import ingress_queue

try:
    _settings = Settings()
    _logging = logs.asked_for()
except ConfigError as error:
    raise SystemExit(f"runlane: {error}") from error

for _name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
    # Celery lets it win over the settings: the worker would keep its leases in one Redis and consume from another.
    if os.environ.pop(_name, None):
        logging.getLogger(__name__).warning("%s has no effect here: RUNLANE_REDIS_URL is broker and store", _name)

app = Celery("runlane", set_as_current=True, control="workers.control.replies:Control")
app.conf.update(
    broker_settings(_settings.redis_url),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # for ever: Celery's default ends the worker after 100
    imports=("workers.tasks", "workers.control.commands", "workers.control.refused"),
    # JSON on the wire, never pickle. Results live in run records, tries in attempts: no backend, no retries.
    accept_content=["json"],
    task_serializer="json",
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=True,
    # A request that waits for its rate is forgotten at a reconnect; its run would count as executing for ever.
    worker_disable_rate_limits=True,
    task_queues=[ingress_queue()],
    task_default_queue=INGRESS_QUEUE,
    # Doorbells are consumed without acknowledgement and bounded by free slots, see transport.py.
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_pool="workers.pool.asyncio_pool:TaskPool",
    worker_consumer="workers.consumer:Consumer",
    worker_concurrency=_settings.concurrency,
    worker_send_task_events=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_soft_time_limit=_settings.soft_time_limit_s,
    task_time_limit=_settings.hard_time_limit_s,
    worker_soft_shutdown_timeout=_settings.soft_shutdown_s,
    worker_hijack_root_logger=True,
    enable_utc=True,
)

if _logging is not None:
    # Celery sets its own logging up only where nobody listens to this signal.
    setup_logging.connect(lambda *, config=_logging, **_: logs.configure(config), weak=False)

# Not only in a worker: Celery's own command (inspect, control) knows the commands that are imported here.
import_module("workers.control.fleet_commands")

_steps = cast("dict[str, set[type]]", app.steps)
_steps["worker"].add(ProcessStep)
_steps["consumer"].add(DoorbellStep)
