"""Every event bus of the registry, driven through the same run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime_core.contracts.run import StopReason
from runtime_core.errors import PluginConfigError, PluginError, PluginLoadError
from runtime_core.events.bus import EventBus, RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.kernel_setup import config, request

BUSES = sorted(BUILTINS[Seam.EVENTS])
OBSERVING = [name for name in BUSES if name != "async"]


def section(name: str, tmp_path: Path, **more: Any) -> dict[str, Any]:
    required = {"log_path": str(tmp_path / "logs" / "events.ndjson")} if name == "file_logging" else {}
    return {"type": name, "config": required | more}


def runtime(events: dict[str, Any]) -> Runtime:
    return Runtime.from_dict(config() | {"events": events})


class ForeignBus:
    """Knows what buses of other SDKs know."""

    def __init__(self) -> None:
        self._bus = EventBus()

    def subscribe(self, event_name: str, handler: Any) -> None:
        self._bus.subscribe(event_name, handler)

    async def emit(self, event_name: str, **payload: Any) -> RuntimeEvent:
        return await self._bus.emit(event_name, **payload)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.mark.parametrize("name", BUSES)
async def test_a_bus_delivers_stamped_events_keeps_them_and_closes(name: str, tmp_path: Path) -> None:
    host, seen, left = runtime(section(name, tmp_path, max_history=500)), list[RuntimeEvent](), list[RuntimeEvent]()
    bus = host.event_bus
    bus.subscribe("*", seen.append)
    bus.subscribe("run.started", left.append)
    bus.unsubscribe("run.started", left.append)

    result = await host.run_detailed(run := request("/tool calc 6*7"))

    assert result.stop_reason is StopReason.COMPLETED
    assert [event.name for event in seen][0 :: len(seen) - 1] == ["run.started", "session.run.completed"]
    assert {event.ids.run_id for event in seen if event.ids} == {run.run_id}
    assert left == []
    assert await bus.get_history() == seen
    assert [event.payload["tool_id"] for event in await bus.get_history("tool.called")] == ["calc"]
    await bus.clear_history()
    assert await bus.get_history() == []
    await bus.emit("config.reloaded", old_version=1, new_version=2, changed_agents=[])
    assert (await bus.get_history(limit=1))[0].ids is None
    await host.close()


@pytest.mark.parametrize("name", BUSES)
def test_an_unknown_field_of_a_bus_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        PluginConfigError, match=r"config\.max_hystory: unknown field .* Did you mean 'max_history'\? Fields"
    ):
        runtime(section(name, tmp_path, max_hystory=5))


@pytest.mark.parametrize("name", OBSERVING)
async def test_buses_wrap_each_other_and_buses_of_others(name: str, tmp_path: Path) -> None:
    inner = {"type": "rich_console", "config": {"inner": {"impl": f"{__name__}.ForeignBus"}}}
    host, seen = runtime(section(name, tmp_path, inner=inner)), list[RuntimeEvent]()
    host.event_bus.subscribe("run.completed", seen.append)

    await host.run_detailed(request())

    assert [(event.payload["result"], event.payload["session_id"]) for event in seen] == [
        ("Echo: hello (history=0)", "s")
    ]


@pytest.mark.parametrize("name", OBSERVING)
def test_an_inner_bus_that_cannot_be_loaded_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="asink"):
        runtime(section(name, tmp_path, inner={"type": "asink"}))


@pytest.mark.parametrize(("name", "package"), [("otel_bridge", "opentelemetry"), ("rich_console", "rich")])
def test_a_missing_package_is_named_with_how_to_get_it(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(PluginLoadError, match=package) as caught:
        runtime(section(name, tmp_path))

    assert "pip install 'runlane[" in str(caught.value)


async def test_events_are_lines_of_json_without_secrets_and_with_the_ids_of_their_run(tmp_path: Path) -> None:
    events = section("file_logging", tmp_path, include_events=["tool.*", "own"], exclude_events=["tool.preflight"])
    events["config"]["max_value_length"] = 64
    host = runtime(events)
    run = request("/tool calc 6*7")

    await host.run_detailed(run)
    await host.event_bus.emit("own", api_key="sk-1", text="x" * 70, odd=object)

    lines = [json.loads(line) for line in (tmp_path / "logs" / "events.ndjson").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["tool.called", "tool.succeeded", "own"]
    stamps = {name: lines[0]["payload"][name] for name in ("run_id", "session_id", "attempt")}
    assert stamps == {"run_id": run.run_id, "session_id": "s", "attempt": 1}
    assert lines[2]["payload"]["api_key"] == "***"
    assert lines[2]["payload"]["text"] == "x" * 64 + "… (6 characters more)"
    assert lines[2]["ts"].endswith("+00:00")


async def test_a_file_that_cannot_be_written_any_more_fails_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = runtime(section("file_logging", tmp_path))
    log = tmp_path / "logs" / "events.ndjson"
    log.unlink()
    log.mkdir()

    assert (await host.run_detailed(request())).stop_reason is StopReason.COMPLETED
    assert "FileLoggingBus failed at event run.started" in caplog.text


def test_a_file_that_cannot_be_written_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginConfigError, match="log_path cannot be written"):
        runtime({"type": "file_logging", "config": {"log_path": str(tmp_path)}})


async def test_events_are_spans_under_the_names_of_the_original(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    host = runtime(section("otel_bridge", tmp_path, include_events=["tool.called", "own"], max_attribute_chars=10))

    await host.run_detailed(request("/tool calc 6*7"))
    await host.event_bus.emit("own", token="t", numbers=list(range(100)))

    called, own = (span for span in spans.get_finished_spans() if span.name.startswith("openagents."))
    assert (called.name, own.name) == ("openagents.tool.called", "openagents.own")
    assert (called.attributes or {})["oa.tool_id"] == "calc"
    assert (called.attributes or {})["oa.session_id"] == "s"
    assert (own.attributes or {})["oa.token"] == "***"
    assert len(str((own.attributes or {})["oa.numbers"])) <= 11


@pytest.mark.parametrize(("show_payload", "stream"), [(True, "stderr"), (False, "stdout")])
async def test_events_are_shown_to_people_where_they_want_them(
    show_payload: bool, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = runtime(section("rich_console", tmp_path, show_payload=show_payload, stream=stream)).event_bus

    await bus.emit("own", api_key="sk-1", note="[red] as it is")

    captured = capsys.readouterr()
    shown, other = (captured.err, captured.out) if stream == "stderr" else (captured.out, captured.err)
    assert "own" in shown
    assert "[red] as it is" in shown
    assert "sk-1" not in shown
    assert ("╭" in shown) is show_payload
    assert other == ""


@pytest.mark.parametrize("show_payload", [True, False])
async def test_nothing_in_an_event_does_anything_to_the_terminal(
    show_payload: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = runtime(section("rich_console", tmp_path, show_payload=show_payload)).event_bus

    await bus.emit("odd.[/b]\x1b[2J", **{"[/red]\x1b": "\x1b]0;title\x07", "list": ["\x9b31m"]})

    shown = capsys.readouterr().err
    assert "odd.[/b]" in shown
    assert "[/red]" in shown
    assert "]0;title" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
