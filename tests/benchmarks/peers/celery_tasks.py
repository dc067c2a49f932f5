"""Celery as it is usually run: Redis as broker and result backend, acknowledged late, no events."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

_URL = os.environ["BENCH_REDIS_URL"]
#: redis-py's pools raise beyond a hundred connections, and worker threads hold one each.
_CONNECTIONS = 4_000

app = Celery("bench", broker=_URL, backend=_URL)
app.conf.update(
    task_acks_late=True,
    result_expires=3_600,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
    redis_max_connections=_CONNECTIONS,
    broker_transport_options={"max_connections": _CONNECTIONS},
)


@app.task(name="noop")
def noop() -> float:
    return time.time()


class Calls:
    def submit(self, job: str, count: int) -> list[Any]:
        return [app.tasks[job].delay() for _ in range(count)]

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get(timeout=60) for handle in handles]
