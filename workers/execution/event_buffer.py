"""The events of an attempt that wait for Redis: bounded, coalesced, and cut into batches. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime_core.contracts.frame import encode_payload
from runtime_core.events.bus import RuntimeEvent
from runtime_core.events.projection import projects

#: What may wait, in events and bytes; beyond either the agent waits too.
BUFFER_EVENTS, BUFFER_BYTES = 1000, 4 * 1024 * 1024
#: What one script writes, which blocks Redis for about 5 µs each event and 1 ms each megabyte.
BATCH_EVENTS, BATCH_BYTES = 250, 1024 * 1024
#: Characters that deltas are coalesced to at the most: a reader gets text in readable pieces.
DELTA_CHARACTERS = 4096
#: Bytes of an event besides its payload, about.
_OVERHEAD = 200
_DELTA = "llm.delta"


@dataclass(slots=True)
class WaitingEvent:
    name: str
    logged: bool
    timestamp_ms: int
    #: As it was when the event was published; the agent may have changed it since.
    payload: dict[str, Any]
    #: The payload as JSON; None for a delta, whose text may grow yet.
    encoded: bytes | None
    size: int


class EventBuffer:
    """1. Events leave in the order in which they came, each once.

    2. A delta of the model's text joins the one before it if that waits still: a reader that is behind gets the same
       text in fewer pieces. Nothing else is changed.
    3. ``full`` says that whoever adds more has to wait; it is never refused.
    """

    def __init__(self) -> None:
        self._waiting: list[WaitingEvent] = []
        self._bytes = 0

    def __repr__(self) -> str:
        return f"EventBuffer(events={len(self._waiting)}, bytes={self._bytes})"

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= BUFFER_EVENTS or self._bytes >= BUFFER_BYTES

    @property
    def is_one_batch(self) -> bool:
        return len(self._waiting) <= BATCH_EVENTS and self._bytes <= BATCH_BYTES

    def add(self, event: RuntimeEvent) -> None:
        text = event.payload.get("text") if event.name == _DELTA else None
        if isinstance(text, str) and self._join(event, text):
            return
        if isinstance(text, str) and len(text) < DELTA_CHARACTERS:
            payload, encoded, size = dict(event.payload), None, len(text)
        else:
            payload, encoded = event.payload, encode_payload(event.payload)
            size = len(encoded)
        waiting = WaitingEvent(
            name=event.name,
            logged=projects(event.name),
            timestamp_ms=event.timestamp_ms,
            payload=payload,
            encoded=encoded,
            size=size + _OVERHEAD,
        )
        self._waiting.append(waiting)
        self._bytes += waiting.size

    def take(self) -> list[WaitingEvent]:
        """The oldest events, as many as one script may write; at least one if there is any."""
        count = size = 0
        for event in self._waiting[:BATCH_EVENTS]:
            if count and size + event.size > BATCH_BYTES:
                break
            count, size = count + 1, size + event.size
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._bytes -= size
        return batch

    def clear(self) -> None:
        self._waiting.clear()
        self._bytes = 0

    def _join(self, event: RuntimeEvent, text: str) -> bool:
        """Append ``text`` to the newest event, if that is a delta of the same making with room for it."""
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.encoded is not None:
            return False
        said: str = last.payload["text"]
        if len(said) + len(text) > DELTA_CHARACTERS or {**last.payload, "text": text} != event.payload:
            return False
        last.payload["text"] = said + text
        last.size += len(text)
        self._bytes += len(text)
        return True
