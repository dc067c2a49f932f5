"""Mirrors one attempt's events to Redis: numbers them, and writes what accumulated while the last write was in flight.

No timer: a lone event leaves at once, a burst leaves in few scripts, with neighbouring deltas of text in one frame. A
batch keeps its numbers and bytes until it is answered, so that sending it again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime_core.clock import boot_seconds, now_ms
from runtime_core.contracts.frame import (
    INLINE_BYTES,
    TERMINAL_EVENT,
    Frame,
    RunIds,
    encode_frame_around,
    encode_payload,
    short_fields,
)
from runtime_core.contracts.run import RunResult
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RuntimeEvent
from runtime_core.events.projection import projects
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from runtime_core.store.connection import RETRYABLE
from workers.execution.event_buffer import EventBuffer, WaitingEvent
from workers.monitoring.metrics import EVENTS, PUBLISH_BATCH, PUBLISH_FAILURES, WRITE_RETRIES

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Bytes of a logged payload beyond which it is dropped: half of what a run's log may hold, see lua/_prelude.lua.
_LARGEST_PAYLOAD = 4 * 1024 * 1024
#: Every attempt's first: the script that began it has written it.
_BEGIN_EVENT = "run.started"
#: Seconds before a write is tried again; Redis is away or starting then.
_RETRY_DELAY = 0.2
#: Seconds for which it is tried after the loss of its lease.
_LAST_TRIES = 5.0


async def until_answered(write: Callable[[], Awaitable[T]], guard: Callable[[], Awaitable[None]], what: str) -> T:
    """Repeat ``write``, or a read, until Redis answers it, while the lease is valid.

    Raises LeaseLost, and what is no outage.

    If the lease is lost after a try whose reply was, the next try tells: the store changes nothing then, and knows
    whether it had. It has some seconds for that: a process that is to end does not wait for Redis.
    """
    asked, lost_at = False, None
    while True:
        try:
            await guard()
        except LeaseLost:
            lost_at = lost_at or boot_seconds()
            if not asked or boot_seconds() - lost_at > _LAST_TRIES:
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

    2. Events that project to a chunk get the next sequence; others carry the last one and are not logged. Numbers are
       given when a batch is made, so that deltas can still be coalesced before.
    3. A payload too large to travel is stored once beside the log.
    4. ``flush`` returns when everything is written, or raises LeaseLost. After ``hold``, which says that the attempt's
       code has ended, ``flush`` leaves the last batch to finish, which ``rest`` gives it: one write instead of two.
    5. Redis may refuse a batch for good. Then it and what follows is dropped, ``publish`` raises that error, ``flush``
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
        self._waiting = EventBuffer()
        self._writer: asyncio.Task[None] | None = None
        #: There while the buffer is full.
        self._room: asyncio.Event | None = None
        self._failure: Exception | None = None
        self._held = False

    @property
    def waiting(self) -> int:
        """Events that are not under way yet."""
        return len(self._waiting)

    async def publish(self, event: RuntimeEvent) -> None:
        if event.name == _BEGIN_EVENT:
            return
        if self._room is not None:
            await self._room.wait()
        if self._failure is not None:
            raise self._failure
        self._waiting.add(event)
        if self._waiting.full and self._room is None:
            self._room = asyncio.Event()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name=f"publisher of {self._admission.run}")
        if projects(event.name):
            self._a_chunk_came()

    def hold(self) -> None:
        self._held = True

    async def flush(self) -> Exception | None:
        while self._writer is not None:
            await asyncio.shield(self._writer)
        if isinstance(self._failure, LeaseLost):
            raise self._failure
        return self._failure

    def rest(self) -> list[NumberedFrame]:
        """The last batch, to be handed to finish; empty without ``hold``."""
        return [self._number(event) for event in self._waiting.take()]

    def drop(self) -> None:
        """What ``rest`` and ``terminal`` gave was refused: the next terminal frame follows what was written."""
        self._sequence = self._written

    def terminal(self, result: RunResult) -> tuple[int, bytes]:
        """The last frame, to be handed to finish after ``flush``. A large result stands in the run's record alone."""
        encoded = result.model_dump_json().encode()
        stored = len(encoded) if len(encoded) > INLINE_BYTES else None
        shown = b"" if stored else b',"result":' + encoded
        payload = b'{"stop_reason":"' + result.stop_reason.encode() + b'"' + shown + b"}"
        self._sequence += 1
        self._a_chunk_came()
        return self._sequence, encode_frame_around(self._frame(TERMINAL_EVENT, now_ms(), stored=stored), payload)

    def _a_chunk_came(self) -> None:
        if self._on_first_chunk is not None:
            self._on_first_chunk()
            self._on_first_chunk = None

    def _number(self, event: WaitingEvent) -> NumberedFrame:
        self._sequence += event.logged
        payload = encode_payload(event.payload) if event.encoded is None else event.encoded
        stored = None
        if len(payload) > INLINE_BYTES:
            short = short_fields(event.payload)
            if not event.logged or len(payload) > _LARGEST_PAYLOAD:
                short, stored = {**short, "too_large": len(payload)}, None
            else:
                stored = payload
            payload = encode_payload(short)
        frame = self._frame(
            event.name, event.timestamp_ms, logged=event.logged, stored=None if stored is None else len(stored)
        )
        return NumberedFrame(self._sequence, event.logged, encode_frame_around(frame, payload), stored or b"")

    def _frame(
        self,
        name: str,
        timestamp_ms: int,
        *,
        logged: bool = True,
        stored: int | None = None,
    ) -> Frame:
        return Frame(
            logged=logged,
            sequence=self._sequence,
            attempt=self._admission.attempt,
            event=name,
            timestamp_ms=timestamp_ms,
            ids=self._ids,
            config_version=self._admission.config_version,
            stored=stored,
        )

    async def _write(self) -> None:
        try:
            while self._waiting and not (self._held and self._waiting.is_one_batch):
                batch = [self._number(event) for event in self._waiting.take()]
                await until_answered(lambda: self._append(batch), self._guard, f"events of run {self._admission.run}")  # noqa: B023
                self._written = self._sequence
                EVENTS.inc(len(batch))
                PUBLISH_BATCH.observe(len(batch))
                if not self._waiting.full:
                    self._make_room()
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
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def _append(self, batch: list[NumberedFrame]) -> None:
        if await self._store.append(self._admission, batch):
            self._on_cancel()
