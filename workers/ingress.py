"""Submission on behalf of plain Celery clients: whatever they send becomes a run, or a record that says why not.

A worker has few submissions in hand at once (INGRESS_IN_HAND). One whose session or partition is full stays there for
a moment at most, in case that is all it takes; then it goes back to the end of the queue, so that however many of its
kind wait, others get their turn: of a worker's hands at least INGRESS_IN_HAND / HOLD_SECONDS a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import ErrorDetails, RunRequest
from runtime_core.errors import InvalidInputError, QueueFull, RunConflict, RunlaneError
from runtime_core.ids import DEFAULT_TENANT, ingress_run_id
from runtime_core.store.connection import RETRYABLE
from runtime_core.store.runs import RunStore
from runtime_core.tracing import carrying

logger = logging.getLogger(__name__)

#: Seconds before a submission is tried again while Redis is away.
_RETRY_DELAY = 0.5
#: Seconds for which a submission that finds its queue full is kept in hand; far below the visibility timeout (60 s).
HOLD_SECONDS = 2.0


async def submit_request(
    runs: RunStore,
    celery_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    carrier: Mapping[str, str] | None = None,
) -> ErrorDetails | None:
    """Submit; returns None, or why the request was refused. Does not give up while Redis is away.

    Raises QueueFull if there is no room yet: the message is to be delivered again later. No try is made sooner after
    another than its ``retry_after_ms``, except by a new delivery.

    Without a run_id the run id is ``ingress_run_id(celery_id)``, so that a second delivery is the same run. A refused
    request is recorded as a finished run under its run_id if that is usable and free, else under that derived one.
    ``carrier`` holds the sender's trace context, see runtime_core/tracing.py.
    """
    hand_back = boot_seconds() + HOLD_SECONDS
    while True:
        try:
            return await _submit_once(runs, celery_id, args, kwargs, carrier or {})
        except QueueFull as full:
            pause, left = (full.retry_after_ms or 0) / 1000, hand_back - boot_seconds()
            await asyncio.sleep(max(0.0, min(pause, left)))
            if pause >= left:
                raise
        except RETRYABLE as error:
            logger.warning("submission %s waits for Redis: %s", celery_id, error)
            await asyncio.sleep(_RETRY_DELAY)


async def _submit_once(
    runs: RunStore, celery_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], carrier: Mapping[str, str]
) -> ErrorDetails | None:
    derived = ingress_run_id(celery_id)
    fields: Mapping[str, Any] = {}
    try:
        fields = _fields(args, kwargs)
        request = RunRequest.model_validate({"run_id": derived, **fields})
        await runs.submit(carrying(request, carrier), tenant=DEFAULT_TENANT)
        return None
    except ValidationError as invalid:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'request'}: {item['msg']}"
            for item in invalid.errors(include_url=False, include_input=False, include_context=False)
        )
        error: RunlaneError = InvalidInputError(f"the request is not valid: {problems}")
    except QueueFull:
        raise
    except RunlaneError as refused:
        error = refused
    details = ErrorDetails.from_exception(error)
    usable = "run_id" not in fields or isinstance(error, RunConflict)
    run_id = derived if usable else _text(fields["run_id"]) or derived
    session_id = _text(fields.get("session_id")) or f"refused-{celery_id}"
    agent_id = _text(fields.get("agent_id")) or ""
    try:
        RunRequest(agent_id=agent_id or "unknown", session_id=session_id, input_text="", run_id=run_id)
    except ValidationError:
        run_id, session_id = derived, f"refused-{celery_id}"
    await runs.refuse(
        tenant=DEFAULT_TENANT, run_id=run_id, session_id=session_id, agent_id=agent_id[:128], error=details
    )
    return details


def _fields(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The request in a call's arguments: ``submit(request)`` or ``submit(request=request)``."""
    values = [*args, *kwargs.values()]
    if len(values) != 1 or (kwargs and "request" not in kwargs):
        raise InvalidInputError(
            f"runlane.submit takes one argument, the request; it got {len(args)} and {sorted(kwargs)}",
            hint='send_task("runlane.submit", [request], queue="runs")',
        )
    if not isinstance(values[0], dict):
        raise InvalidInputError(
            f"the request is a {type(values[0]).__name__}, not an object",
            hint="a request is an object with agent_id, session_id and input_text",
        )
    return {str(name): value for name, value in values[0].items()}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
