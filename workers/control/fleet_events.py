"""Events without a run go from the local bus to the channel ``rl:fleet``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from runtime_core.clock import now_ms
from runtime_core.contracts.fleet_event import FleetEvent
from runtime_core.contracts.frame import encode_payload
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE

logger = logging.getLogger(__name__)


class FleetEvents:
    def __init__(self, redis: Redis, worker: str, config_version: Callable[[], int]) -> None:
        self._redis = redis
        self._worker = worker
        self._config_version = config_version

    async def mirror(self, event: Any) -> None:
        """A subscriber of the local bus, for all events. Runs' events, which the publisher mirrors, it leaves alone."""
        payload: dict[str, Any] = dict(getattr(event, "payload", None) or {})
        if getattr(event, "ids", None) is not None or payload.get("run_id"):
            return
        shown = FleetEvent(
            event=str(event.name),
            timestamp_ms=now_ms(),
            worker=self._worker,
            config_version=self._config_version(),
        )
        head = shown.model_dump_json(exclude={"payload"}).encode()
        try:
            await self._redis.publish(keys.FLEET_CHANNEL, head[:-1] + b',"payload":' + encode_payload(payload) + b"}")
        except RETRYABLE as error:
            logger.warning("the event %s of this worker was not published: %s", event.name, error)
