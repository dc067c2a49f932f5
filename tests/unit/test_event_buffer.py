"""What waits for Redis: order, coalescing, bounds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime_core.events.bus import RuntimeEvent
from workers.execution.event_buffer import (
    BATCH_BYTES,
    BATCH_EVENTS,
    BUFFER_BYTES,
    BUFFER_EVENTS,
    DELTA_CHARACTERS,
    EventBuffer,
    WaitingEvent,
)


def delta(text: Any, **more: Any) -> RuntimeEvent:
    return RuntimeEvent(name="llm.delta", payload={"text": text, **more}, timestamp_ms=1)


def event(name: str, **payload: Any) -> RuntimeEvent:
    return RuntimeEvent(name=name, payload=payload, timestamp_ms=1)


def drained(buffer: EventBuffer) -> list[WaitingEvent]:
    taken: list[WaitingEvent] = []
    while buffer:
        taken += buffer.take()
    return taken


def filled(*events: RuntimeEvent) -> EventBuffer:
    buffer = EventBuffer()
    for one in events:
        buffer.add(one)
    return buffer


def test_deltas_that_wait_are_one() -> None:
    (only,) = drained(filled(delta("a", step=1), delta("b", step=1), delta("c", step=1)))
    assert only.payload == {"text": "abc", "step": 1}


def test_deltas_with_something_between_them_stay_apart() -> None:
    taken = drained(filled(delta("a"), event("usage.updated"), delta("b"), delta("c", step=2), delta(7), delta("d")))
    assert [one.payload.get("text") for one in taken] == ["a", None, "b", "c", 7, "d"]


def test_deltas_are_not_coalesced_without_end() -> None:
    taken = drained(filled(*(delta("x" * 100) for _ in range(100))))
    assert len(taken) > 1
    assert all(len(one.payload["text"]) <= DELTA_CHARACTERS for one in taken)


def test_a_delta_that_left_does_not_grow() -> None:
    buffer = filled(delta("a"))
    (first,) = buffer.take()
    buffer.add(delta("b"))
    assert first.payload == {"text": "a"}
    assert [one.payload["text"] for one in drained(buffer)] == ["b"]


def test_a_payload_is_what_it_was_when_it_was_published() -> None:
    mine = {"result": [1]}
    buffer = filled(RuntimeEvent(name="tool.succeeded", payload=mine))
    mine["result"].append(2)
    (only,) = drained(buffer)
    assert json.loads(only.encoded or b"") == {"result": [1]}


def test_it_is_full_of_many_events_and_of_large_ones() -> None:
    many = filled(*(event("usage.updated") for _ in range(BUFFER_EVENTS)))
    large = filled(event("tool.succeeded", result="x" * BUFFER_BYTES))
    assert many.full
    assert large.full
    many.take()
    assert not many.full
    assert len(large.take()) == 1
    assert not large.full
    assert repr(large) == "EventBuffer(events=0, bytes=0)"


@given(
    st.lists(
        st.one_of(
            st.text(max_size=DELTA_CHARACTERS + 10).map(delta),
            st.integers(0, BATCH_BYTES).map(lambda size: event("tool.succeeded", result="x" * size)),
            st.just(event("usage.updated")),
        ),
        max_size=40,
    )
)
def test_every_text_and_every_event_leaves_in_order_in_bounded_batches(events: list[RuntimeEvent]) -> None:
    buffer = filled(*events)
    batches: list[list[WaitingEvent]] = []
    while buffer:
        batches.append(buffer.take())
    left = [one for batch in batches for one in batch]

    def text(payloads: list[tuple[str, dict[str, Any]]]) -> str:
        return "".join(payload["text"] if name == "llm.delta" else f"<{len(payload)}>" for name, payload in payloads)

    assert text([(one.name, one.payload) for one in left]) == text([(one.name, one.payload) for one in events])
    assert all(batch and len(batch) <= BATCH_EVENTS for batch in batches)
    assert all(len(batch) == 1 or sum(one.size for one in batch) <= BATCH_BYTES for batch in batches)
    assert repr(buffer) == "EventBuffer(events=0, bytes=0)"
