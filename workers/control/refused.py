"""Celery's control commands that have no meaning for runs: each says so and what to do instead.

The stock ones would answer "ok". A rate limit would never apply; a queue added or cancelled by hand would be consumed
by a worker that may admit nothing in it, or by nobody.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command


@control_command(args=[("task_name", str), ("rate_limit", str)], signature="<task> <rate>")
def rate_limit(state: Any, **_: Any) -> dict[str, str]:
    """Refused: runs have no rate limit."""
    return {
        "error": "runs have no rate limit: bound what executes at once with pool_grow, pool_shrink or --concurrency"
    }


@control_command(args=[("queue", str)], signature="<queue>")
def add_consumer(state: Any, **_: Any) -> dict[str, str]:
    """Refused: a worker consumes the queues of its partitions."""
    return {"error": "a worker consumes the queues of its partitions: start or drain workers to move them"}


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: Any, **_: Any) -> dict[str, str]:
    """Refused: see add_consumer."""
    return {"error": "a worker consumes the queues of its partitions: `runlane drain` makes it give them up"}
