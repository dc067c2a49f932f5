"""What streams read of runs beside pub/sub, for any number of readers over one connection."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.frame import Frame
from runtime_core.contracts.run import RunRecord
from runtime_core.contracts.stream import StreamSnapshot
from runtime_core.ids import ScopedRunId
from runtime_core.store import reads
from runtime_core.store.shared_reads import SharedReads

#: Frames per read of a log: at most some megabytes, since larger payloads are stored beside it.
PAGE = 100


class RunReader:
    """Each read outlasts a short absence of Redis, as ``call`` has it. What is returned is shared: do not change it."""

    def __init__(
        self, redis: Redis, call: Callable[[Callable[[], Awaitable[list[Any]]]], Awaitable[list[Any]]]
    ) -> None:
        self._reads = SharedReads(redis, call)

    async def locate(self, run: ScopedRunId) -> int:
        """The partition of a run. Raises RunNotFound."""
        return await self._reads.get(reads.partition_of_run(run))

    async def record(self, partition: int, run: ScopedRunId) -> RunRecord:
        """Raises RunNotFound if it is gone."""
        return await self._reads.get(reads.record_of_run(partition, run))

    async def page(self, partition: int, run: ScopedRunId, after: int) -> list[Frame]:
        """The next PAGE frames of the log behind ``after``."""
        return await self._reads.get(reads.log_of_run(partition, run, after=after, count=PAGE))

    async def snapshot(self, partition: int, run: ScopedRunId) -> tuple[int, StreamSnapshot] | None:
        """What the log dropped: its last sequence, and how things stood then."""
        return await self._reads.get(reads.snapshot_of_run(partition, run))

    async def children(self, partition: int, run: ScopedRunId) -> frozenset[ScopedRunId]:
        return await self._reads.get(reads.children_of_run(partition, run))

    async def whole(self, partition: int, run: ScopedRunId, frame: Frame) -> Frame:
        """``frame`` with its payload, if that is stored elsewhere and still there."""
        if frame.stored is None:
            return frame
        if frame.terminal:
            result = (await self.record(partition, run)).result
            payload: dict[str, Any] = {"result": result.model_dump(mode="json") if result else None}
        else:
            stored = await self._reads.get(reads.payload_in_store(partition, run, frame.sequence))
            payload = {"unavailable": "the log dropped it"} if stored is None else json.loads(stored)
        return replace(frame, payload=frame.payload | payload, stored=None)
