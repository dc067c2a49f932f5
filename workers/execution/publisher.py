"""Mirrors one attempt's events to Redis: numbers them, and writes what accumulated while the last write was in flight.

No timer: a lone event leaves at once, a burst leaves in few scripts. A batch keeps its numbers and bytes until it is
answered, so that sending it again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from runtime_core.clock import now_ms
from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds, encode_frame
from runtime_core.contracts.run import RunResult
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RuntimeEvent
from runtime_core.events.projection import projects
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from runtime_core.store.connection import RETRYABLE
from workers.monitoring.metrics import EVENTS, PUBLISH_BATCH, PUBLISH_FAILURES, WRITE_RETRIES

logger = logging.getLogger(__name__)

#: Frames that may wait for Redis; beyond it the agent waits too.
_BUFFER_FRAMES = 1000
#: Frames in one script, which blocks Redis for about 5 µs each.
_BATCH_FRAMES = 250
#: Every attempt's first: it says nothing of the agent's speed.
_BEGIN_EVENT = "run.started"
#: Seconds before a write is tried again; Redis is away or starting then.
_RETRY_DELAY = 0.2


async def until_answered(write: Callable[[], Awaitable[None]], guard: Callable[[], Awaitable[None]], what: str) -> None:
    """Repeat ``write`` until Redis answers it, while the lease is valid. Raises LeaseLost, and what is no outage.

    If the lease is lost after a try whose reply was, the next try tells: the store changes nothing then, and knows
    whether it had.
    """
    asked = False
    while True:
        try:
            await guard()
        except LeaseLost:
            if not asked:
                raise
        asked = True
        try:
            return await write()
        except RETRYABLE as error:
            WRITE_RETRIES.inc()
            logger.warning("%s could not be written, trying again: %s", what, error)
            await asyncio.sleep(_RETRY_DELAY)


class Publisher:
    """1. ``publish`` returns at once unless the buffer is full. It raises LeaseLost once the attempt may write no more.

    2. Events that project to a chunk get the next sequence; others carry the last one and are not logged.
    3. ``flush`` returns when everything is written, or raises LeaseLost.
    4. Redis may refuse a batch for good. Then it and what follows is dropped, ``publish`` raises that error, ``flush``
       returns it, and the terminal frame follows what was written.
    """

    def __init__(
        self,
        store: AttemptStore,
        admission: Admission,
        ids: RunIds,
        guard: Callable[[], Awaitable[None]],
        *,
        on_cancel: Callable[[], None],
        on_lost: Callable[[], None],
        on_first_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._admission = admission
        self._ids = ids
        self._guard = guard
        self._on_cancel = on_cancel
        self._on_lost = on_lost
        self._on_first_chunk: Callable[[], None] | None = on_first_chunk
        self._sequence = self._written = admission.sequence
        self._waiting: list[NumberedFrame] = []
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._failure: Exception | None = None

    async def publish(self, event: RuntimeEvent) -> None:
        await self._room.wait()
        if self._failure is not None:
            raise self._failure
        self._waiting.append(self._number(event.name, event.payload, event.timestamp_ms, projects(event.name)))
        if len(self._waiting) >= _BUFFER_FRAMES:
            self._room.clear()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name=f"publisher of {self._admission.run}")

    async def flush(self) -> Exception | None:
        while self._writer is not None:
            await asyncio.shield(self._writer)
        if isinstance(self._failure, LeaseLost):
            raise self._failure
        return self._failure

    def terminal(self, result: RunResult) -> tuple[int, bytes]:
        """The last frame, to be handed to finish after ``flush``."""
        payload: dict[str, Any] = {"stop_reason": result.stop_reason, "result": result.model_dump(mode="json")}
        sequence, _, data = self._number(TERMINAL_EVENT, payload, now_ms(), True)
        return sequence, data

    def _number(self, name: str, payload: dict[str, Any], timestamp_ms: int, logged: bool) -> NumberedFrame:
        self._sequence += logged
        if logged and name != _BEGIN_EVENT and self._on_first_chunk is not None:
            self._on_first_chunk()
            self._on_first_chunk = None
        frame = Frame(
            logged=logged,
            sequence=self._sequence,
            attempt=self._admission.attempt,
            event=name,
            timestamp_ms=timestamp_ms,
            ids=self._ids,
            config_version=self._admission.config_version,
            payload=payload,
        )
        return self._sequence, logged, encode_frame(frame)

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:_BATCH_FRAMES]
                await until_answered(lambda: self._append(batch), self._guard, f"events of run {self._admission.run}")  # noqa: B023
                self._written = batch[-1][0]
                EVENTS.inc(len(batch))
                PUBLISH_BATCH.observe(len(batch))
                del self._waiting[: len(batch)]
                if len(self._waiting) < _BUFFER_FRAMES:
                    self._room.set()
        except Exception as error:
            self._failure = error
            self._waiting.clear()
            self._sequence = self._written
            if isinstance(error, LeaseLost):
                self._on_lost()
            else:
                PUBLISH_FAILURES.inc()
                logger.exception("events of run %s cannot be written", self._admission.run)
        finally:
            self._writer = None
            self._room.set()

    async def _append(self, batch: list[NumberedFrame]) -> None:
        if await self._store.append(self._admission, batch):
            self._on_cancel()
