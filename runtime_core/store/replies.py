"""Replies that may be garbage: what looks after a fleet must read a store in which a key was spoilt."""

from __future__ import annotations

from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from runtime_core.store.connection import RETRYABLE, outage


async def execute(pipeline: Pipeline) -> list[Any]:
    """The reply of each command, or the ResponseError of one that was refused, for its key has another type.

    Raises one of RETRYABLE if Redis cannot serve.
    """
    replies = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, ResponseError) and (away := outage(reply)):
            raise away
        if isinstance(reply, RETRYABLE):
            raise reply
    return replies


def readable(reply: Any, otherwise: Any) -> Any:
    """``reply``, or ``otherwise`` in place of an error."""
    return otherwise if isinstance(reply, Exception) else reply


def number(text: Any) -> int | None:
    """The integer in ``text``; None for anything else."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def server_time_ms(reply: Any) -> int:
    """What TIME answered, in ms since the epoch."""
    seconds, micros = reply
    return int(seconds) * 1000 + int(micros) // 1000
