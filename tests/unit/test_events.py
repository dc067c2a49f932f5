"""The local bus, the run's facade, the taxonomy and the projection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.frame import Frame, RunIds, decode_frame, encode_frame
from runtime_core.contracts.run import RunResult
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.errors import PluginConfigError
from runtime_core.events.bus import EventBus, RunEvents, RuntimeEvent
from runtime_core.events.projection import CHUNK_KIND_BY_EVENT, chunk_from_frame, projects
from runtime_core.events.taxonomy import EVENTS, missing_keys

IDS = RunIds(run_id="r", session_id="s", agent_id="a")


async def test_handlers_run_inline_by_name_then_by_wildcard_sync_and_async() -> None:
    bus, seen = EventBus(), list[str]()

    async def wildcard(event: RuntimeEvent) -> None:
        seen.append(f"* {event.name}")

    bus.subscribe("*", wildcard)
    bus.subscribe("one", lambda event: seen.append(f"one {event.payload['value']}"))
    await bus.emit("one", value=1)
    await bus.emit("two")

    assert seen == ["one 1", "* one", "* two"]


async def test_a_failing_handler_is_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    bus, seen = EventBus(), list[str]()

    def fail(event: RuntimeEvent) -> None:
        raise ValueError

    bus.subscribe("one", fail)
    bus.subscribe("one", lambda event: seen.append(event.name))
    await bus.emit("one")

    assert seen == ["one"]
    assert "a handler of event one failed" in caplog.text


async def test_unsubscribing_ends_delivery_and_is_no_error_twice() -> None:
    bus, seen = EventBus(), list[RuntimeEvent]()
    handler = seen.append
    bus.subscribe("one", handler)

    bus.unsubscribe("one", handler)
    bus.unsubscribe("one", handler)
    await bus.emit("one")

    assert seen == []


async def test_history_is_bounded_and_can_be_read_by_name() -> None:
    bus = EventBus({"max_history": 3})
    for name in ("a", "b", "a", "c"):
        await bus.emit(name)

    assert [event.name for event in await bus.get_history()] == ["b", "a", "c"]
    assert [event.name for event in await bus.get_history("a")] == ["a"]
    assert [event.name for event in await bus.get_history(limit=1)] == ["c"]
    assert await bus.get_history(limit=0) == []
    await bus.clear_history()
    assert await bus.get_history() == []


def test_a_wrong_config_names_the_field() -> None:
    with pytest.raises(PluginConfigError, match="max_history"):
        EventBus({"max_history": 0})


async def test_a_run_s_events_are_stamped_and_reach_the_sink_after_the_bus() -> None:
    bus, seen = EventBus(), list[tuple[str, RuntimeEvent]]()

    async def sink(event: RuntimeEvent) -> None:
        seen.append(("sink", event))

    bus.subscribe("*", lambda event: seen.append(("bus", event)))
    await RunEvents(bus, IDS, RunScope(sink=sink, attempt=3, config_version=5)).emit("custom", value=1)

    assert [place for place, _ in seen] == ["bus", "sink"]
    for _, event in seen:
        assert (event.ids, event.attempt, event.config_version) == (IDS, 3, 5)
    assert seen[1][1].payload == {"value": 1}


async def test_a_handler_finds_ids_and_time_where_handlers_of_the_openagents_sdk_look() -> None:
    bus = EventBus()

    await RunEvents(bus, IDS, RunScope(attempt=3)).emit("custom", value=1)

    (event,) = bus.history
    assert event.payload == {**IDS.as_dict(), "attempt": 3, "config_version": 1, "value": 1}
    assert datetime.fromisoformat(event.timestamp).timestamp() * 1000 == pytest.approx(event.timestamp_ms)


async def test_ids_repeated_in_the_payload_are_dropped_but_foreign_ones_stay() -> None:
    events = RunEvents(EventBus(), IDS, RunScope())

    event = await events.emit("custom", run_id="r", session_id="s", agent_id="child", parent_run_id=None)

    assert event.payload == {"agent_id": "child"}


async def test_a_bus_plugin_of_another_kind_gets_the_stamps_in_the_payload() -> None:
    class ForeignBus:
        seen: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012

        async def emit(self, event_name: str, **payload: Any) -> None:
            self.seen.append((event_name, payload))
            raise RuntimeError("a bus that fails does not fail the run")

    bus = ForeignBus()
    await RunEvents(bus, IDS, RunScope()).emit("custom", value=1)

    assert bus.seen == [("custom", {**IDS.as_dict(), "attempt": 1, "config_version": 1, "value": 1})]


async def test_a_declared_event_that_lacks_a_key_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await EventBus().emit("tool.called", tool_id="t")

    assert "event tool.called lacks the payload keys params" in caplog.text
    assert missing_keys("users.own", {}) == []


def test_every_event_that_projects_is_declared() -> None:
    assert set(CHUNK_KIND_BY_EVENT) <= set(EVENTS)
    assert set(CHUNK_KIND_BY_EVENT.values()) == set(RunStreamChunkKind)


@pytest.mark.parametrize("event", sorted(set(CHUNK_KIND_BY_EVENT) - {"run.finished"}))
def test_a_frame_becomes_a_chunk_with_its_payload(event: str) -> None:
    frame = Frame(
        logged=True, sequence=4, attempt=2, event=event, timestamp_ms=9, ids=IDS, config_version=1, payload={"x": [1]}
    )

    chunk = chunk_from_frame(decode_frame(encode_frame(frame)))

    assert (chunk.kind, chunk.sequence, chunk.attempt, chunk.timestamp_ms) == (CHUNK_KIND_BY_EVENT[event], 4, 2, 9)
    assert (chunk.run_id, chunk.session_id, chunk.agent_id) == ("r", "s", "a")
    assert chunk.payload == {"x": [1]}
    assert chunk.result is None


def test_the_terminal_frame_is_split_into_stop_reason_and_result_in_process_and_on_the_wire() -> None:
    result = RunResult(run_id="r", final_output="x")
    payload = {"stop_reason": "completed", "result": result}
    frame = Frame(logged=True, sequence=4, attempt=1, event="run.finished", timestamp_ms=9, ids=IDS, payload=payload)

    chunks = [chunk_from_frame(frame), chunk_from_frame(decode_frame(encode_frame(frame)))]

    assert chunks[0] == chunks[1]
    assert chunks[0].payload == {"stop_reason": "completed"}
    assert chunks[0].result == result


def test_events_that_do_not_project_are_not_chunks() -> None:
    assert not projects("llm.called")
    assert projects("llm.delta")
