"""The store's control channel: hurries cancels, waiting runs and released partitions along. Each is noticed without it,
later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE

logger = logging.getLogger(__name__)

#: Seconds before a lost subscription is made again.
_RETRY_DELAY = 0.5


async def listen(
    redis: Redis,
    *,
    on_cancel: Callable[[ScopedRunId], object],
    on_woken: Callable[[ScopedRunId], object],
    on_released: Callable[[], object],
) -> None:
    """Listen to all partitions until cancelled; reconnects by itself."""
    while True:
        try:
            await _listen_once(redis, on_cancel, on_woken, on_released)
        except RETRYABLE as error:
            logger.info("the control channel is lost, subscribing again: %s", error)
        except Exception:
            logger.exception("listening to the control channel failed, subscribing again")
        await asyncio.sleep(_RETRY_DELAY)


async def _listen_once(
    redis: Redis,
    on_cancel: Callable[[ScopedRunId], object],
    on_woken: Callable[[ScopedRunId], object],
    on_released: Callable[[], object],
) -> None:
    pubsub: Any = redis.pubsub(ignore_subscribe_messages=True)
    try:
        await pubsub.psubscribe(keys.ALL_CONTROL_PATTERN)
        async for message in pubsub.listen():
            word, _, argument = str(message["data"]).partition(" ")
            if word == "cancel":
                on_cancel(ScopedRunId(argument))
            elif word == "woken":
                on_woken(ScopedRunId(argument))
            elif word == "released":
                on_released()
    finally:
        await pubsub.aclose()
