"""What goes wrong in a plugin ends its run, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunBudget, StopReason
from runtime_core.errors import ConfigError, LeaseLost
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.kernel.validation import json_output
from tests.unit.kernel_setup import config, names, plugin, recorded, request, runtime


@pytest.mark.parametrize(
    ("raises", "message"),
    [
        ("value", "ValueError: wrong value"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator", "GeneratorExit"),
        ("cancelled", "CancelledError"),
        ("file name", "FileNotFoundError: no file caf?"),
    ],
)
async def test_whatever_a_pattern_raises_is_a_failed_result(raises: str, message: str) -> None:
    result, events = await recorded(runtime(pattern=plugin("Raising", raises=raises)), request())

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert (result.error_details.code, result.error_details.message) == ("pattern.error", message)
    assert result.error_details.context["agent_id"] == "a"
    assert result.error_details.cause is not None
    assert names(events)[-2:] == ["run.failed", "session.run.completed"]
    assert events[-2].payload["error"] == message


async def test_a_timeout_of_the_pattern_is_a_timeout_of_the_run() -> None:
    result = await runtime(pattern=plugin("Raising", raises="timeout")).execute(request())

    assert result.stop_reason is StopReason.TIMEOUT


async def test_a_lost_lease_is_not_a_result() -> None:
    with pytest.raises(LeaseLost):
        await runtime(pattern=plugin("Raising", raises="lease")).execute(request())


async def test_a_guard_that_raises_stops_the_run_before_its_next_model_call() -> None:
    async def guard() -> None:
        raise LeaseLost

    events: list[RuntimeEvent] = []

    async def sink(event: RuntimeEvent) -> None:
        events.append(event)

    with pytest.raises(LeaseLost):
        await runtime().execute(request(), RunScope(guard=guard, sink=sink))

    assert "llm.called" not in names(events)


async def test_a_sink_that_lost_its_lease_stops_the_run_even_inside_a_tool() -> None:
    async def sink(event: RuntimeEvent) -> None:
        if event.name == "tool.called":
            raise LeaseLost

    with pytest.raises(LeaseLost):
        await runtime().execute(request("/tool calc 1+1"), RunScope(sink=sink))


async def test_cancelling_the_task_cancels_the_run_and_frees_its_session() -> None:
    host, waiting = runtime(pattern=plugin("Waiting")), asyncio.Event()
    host.event_bus.subscribe("test.waiting", lambda _: waiting.set())
    run = asyncio.create_task(host.execute(request()))
    await waiting.wait()

    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    async with asyncio.timeout(1), host.session_manager.session("s"):
        assert await host.session_manager.load_messages("s") == []


async def test_a_plugin_that_cannot_be_imported_fails_the_run_and_the_next_agent_works() -> None:
    broken = config(agent_id="broken", memory={"impl": "no.such.module.Memory"})
    host = Runtime.from_dict({"agents": broken["agents"] + config()["agents"]})

    result = await host.execute(request(agent="broken"))

    assert result.error_details is not None
    assert result.error_details.code == "plugin.load"
    assert [problem.code for problem in host.problems_of(host.config)] == ["plugin.load"]
    assert (await host.execute(request())).stop_reason is StopReason.COMPLETED


async def test_a_model_without_its_key_fails_the_run_with_the_variable_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    host = runtime(llm={"provider": "anthropic", "api_key_env": "SOME_KEY"})

    result = await host.execute(request())

    assert result.error_details is not None
    assert result.error_details.code == "config.error"
    assert "SOME_KEY is not set" in result.error_details.message


@pytest.mark.parametrize(("on_error", "stop_reason"), [("continue", "completed"), ("fail", "failed")])
async def test_on_error_decides_whether_a_failing_memory_fails_the_run(on_error: str, stop_reason: str) -> None:
    host = runtime(memory=plugin("FailingMemory") | {"on_error": on_error})

    result, events = await recorded(host, request())

    assert result.stop_reason == stop_reason
    failed = next(event for event in events if event.name == "memory.inject_failed")
    assert failed.payload["error"] == "no memory today"


async def test_an_output_that_is_not_json_stays_an_object_in_process() -> None:
    result = await runtime(pattern=plugin("Returning")).execute(request())

    assert type(result.final_output) is object


@pytest.mark.parametrize(
    ("settings", "type_name"), [({}, "object"), ({"kind": "nan"}, "dict"), ({"kind": "surrogate"}, "list")]
)
async def test_an_output_that_is_not_json_fails_the_run_where_it_would_leave_the_process(
    settings: dict[str, Any], type_name: str
) -> None:
    given = runtime().session_manager
    raw = config(pattern=plugin("Returning", **settings))
    host = Runtime(Runtime.from_dict(raw).config, session_manager=given, shared_sessions_only=True)

    result = await host.execute(request())
    checked = json_output(await runtime(pattern=plugin("Returning", **settings)).execute(request()))

    for failed in (result, checked):
        assert failed.stop_reason is StopReason.FAILED
        assert failed.error_details is not None
        assert failed.error_details.code == "execution.error"
        assert type_name in failed.error_details.message
        failed.model_dump_json()
    assert (await given.load_messages("s"))[-1]["is_error"] is True


def test_a_worker_refuses_a_session_plugin_that_other_processes_cannot_see() -> None:
    own = {"impl": "runtime_core.plugins.builtin.session.in_memory.InMemorySession"}
    parsed = Runtime.from_dict(config() | {"session": own}).config

    with pytest.raises(ConfigError, match="is not shared between processes"):
        Runtime(parsed, session_manager=object(), shared_sessions_only=True)


async def test_a_failing_event_handler_does_not_disturb_the_run() -> None:
    host = runtime()

    def fail(event: RuntimeEvent) -> None:
        raise RuntimeError(event.name)

    host.event_bus.subscribe("*", fail)

    assert (await host.execute(request())).stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("pattern", [plugin("Artifacts"), plugin("Returning")])
async def test_a_run_whose_session_refuses_its_end_is_once_in_the_transcript(pattern: dict[str, Any]) -> None:
    host = Runtime.from_dict(config(pattern=pattern) | {"session": plugin("StrictSession")})

    result = await host.run_detailed(request())

    assert result.stop_reason is StopReason.FAILED
    messages = await host.session_manager.load_messages("s")
    assert [message["role"] for message in messages] == ["user", "assistant"]


async def test_an_artifact_that_json_cannot_hold_fails_the_run_where_its_result_leaves_the_process() -> None:
    given = runtime(pattern=plugin("UnsavableArtifact"))
    host = Runtime(given.config, session_manager=given.session_manager, shared_sessions_only=True)

    result = await host.run_detailed(request())

    assert result.error_details is not None
    assert "the metadata of artifact 'report' is not JSON" in result.error_details.message
    (_, answer) = await host.session_manager.load_messages("s")
    assert answer["is_error"] is True


async def test_a_checkpoint_that_does_not_exist_is_a_failed_result() -> None:
    result = await runtime().execute(request(resume_from_checkpoint="r:step:3"))

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "config.error"
    assert "'r:step:3'" in result.error_details.message


async def test_a_limit_of_cost_that_cannot_be_checked_is_announced() -> None:
    _, events = await recorded(runtime(), request(budget=RunBudget(max_cost_usd=0.5)))

    (skipped,) = [event for event in events if event.name == "budget.cost_skipped"]
    assert skipped.payload["limit"] == 0.5


async def test_values_that_a_plugin_config_refuses_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SECRET", "sk-verysecret")
    for section in (
        {"type": "window_buffer", "config": {"window_size": "sk-verysecret"}},
        plugin("Validated", size="prefix-sk-verysecret"),
    ):
        result = await runtime(memory=section).execute(request())

        assert result.error_details is not None
        assert result.error_details.code == "plugin.config"
        assert "size: input should be a valid integer" in result.error_details.message
        assert "verysecret" not in result.model_dump_json()


def test_what_has_no_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    llm = {"provider": "mock", "stream_endpoint": "http://127.0.0.1/stream"}

    Runtime.from_dict(config(llm=llm) | {"runtime": {"type": "default", "config": {"mcp": {}, "tool_exekutor": None}}})

    assert "agents['a'].llm.stream_endpoint of the agents file has no effect" in caplog.text
    assert "runtime.config.mcp of the agents file has no effect" in caplog.text
    assert "runtime.config.tool_exekutor of the agents file has no effect" in caplog.text
    assert "Did you mean 'tool_executor'?" in caplog.text
    assert "llm.retry" not in caplog.text
