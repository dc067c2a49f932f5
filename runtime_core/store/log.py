"""Reading a run's log: its logged frames, in sequence."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.frame import Frame, decode_frame
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys


class RunLog:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, partition: int, run: ScopedRunId, *, after: int = 0, count: int = 500) -> list[Frame]:
        """Up to ``count`` frames with sequence > ``after``. The first may be later than after + 1: it is bounded."""
        call: Any = self._redis.xrange(keys.log(partition, run), min=f"({after}-0", count=count)
        entries: list[tuple[str, dict[str, str]]] = await call
        return [decode_frame(fields["f"]) for _, fields in entries]
