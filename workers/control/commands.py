"""Celery's remote control commands that mean something else for runs: revoke and terminate cancel, shutdown drains."""

from __future__ import annotations

import logging
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import control as stock
from celery.worker.control import control_command

from runtime_core.errors import RunNotFound
from runtime_core.ids import ScopedRunId
from runtime_core.store.connection import RETRYABLE
from workers.control.shutdown import begin_drain
from workers.process import current_process

logger = logging.getLogger(__name__)


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> dict[str, str]:
    """Cancel runs by id, queued or running; other tasks are revoked as Celery does it."""
    ids = [str(one) for one in maybe_list(task_id) or []]
    current_process().pool.submit(_cancel(state, ids, terminate, signal))
    return {"ok": f"cancelling {', '.join(ids)}"}


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> dict[str, str]:
    """Cancel runs by id, see revoke."""
    return revoke(state, task_id, terminate=True, signal=signal)


@control_command()
def shutdown(state: Any, msg: str = "Got shutdown from remote", **_: Any) -> None:
    """Drain the worker, then shut it down."""
    logger.warning("%s", msg)
    begin_drain()


async def _cancel(state: Any, ids: list[str], terminate: bool, signal: Any) -> None:
    process = current_process()
    for one in ids:
        run = ScopedRunId(one)
        try:
            await process.runs.cancel(run)
            process.cancel_here(run)
        except RunNotFound:
            process.pool.call_on_hub(lambda task_id=one: stock.revoke(state, task_id, terminate, signal))
        except RETRYABLE as error:
            logger.error("run %s could not be cancelled, try again: %s", run, error)
