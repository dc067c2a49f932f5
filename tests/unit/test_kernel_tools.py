"""Tools within a run: threads, failures, stable call ids."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunBudget, StopReason
from runtime_core.events.bus import RuntimeEvent
from runtime_core.ids import ScopedRunId
from tests.unit.kernel_plugins import ThreadTool
from tests.unit.kernel_setup import plugin, recorded, request, runtime


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """The event that ThreadTool waits for; set in the end, so that no thread stays behind."""
    ThreadTool.release.clear()
    yield ThreadTool.release
    ThreadTool.release.set()


def tool(name: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"id": "t", **plugin(name, **settings)}]


def payloads(events: list[RuntimeEvent], name: str) -> list[dict[str, Any]]:
    return [event.payload for event in events if event.name == name]


async def test_a_failing_tool_is_told_to_the_model_and_the_run_goes_on() -> None:
    result, events = await recorded(runtime(tools=tool("FailingTool")), request("/tool t x"))

    assert result.stop_reason is StopReason.COMPLETED
    assert result.final_output == "t says: Error: the disk is full (buy another one)"
    failed = payloads(events, "tool.failed")[0]
    assert failed["error_details"]["code"] == "tool.permanent"
    assert failed["call_id"] == payloads(events, "tool.called")[0]["call_id"]


async def test_a_tool_that_there_is_not_is_told_to_the_model_with_those_that_there_are() -> None:
    result, events = await recorded(runtime(), request("/tool calk 1"))

    assert payloads(events, "tool.failed")[0]["error_details"]["code"] == "tool.not_found"
    assert "Did you mean 'calc'" in result.final_output


async def test_a_crashing_tool_is_a_tool_error_with_its_cause() -> None:
    result, events = await recorded(runtime(tools=tool("CrashingTool")), request("/tool t x"))

    details = payloads(events, "tool.failed")[0]["error_details"]
    assert result.stop_reason is StopReason.COMPLETED
    assert (details["code"], details["context"]["tool_id"]) == ("tool.error", "t")
    assert details["cause"]["message"] == "ZeroDivisionError: by zero"


async def test_a_tool_that_exits_the_process_fails_its_run_only() -> None:
    host = runtime(tools=tool("ExitingTool"))

    result, events = await recorded(host, request("/tool t x"))

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.message == "SystemExit: 1"
    assert len(payloads(events, "tool.failed")) == 1
    assert (await host.execute(request())).stop_reason is StopReason.COMPLETED


async def test_an_unknown_tool_is_a_failed_call_with_a_near_match() -> None:
    result, events = await recorded(runtime(), request("/tool cal 1+1"))

    assert result.stop_reason is StopReason.COMPLETED
    assert "Did you mean 'calc'?" in result.final_output
    assert payloads(events, "tool.failed")[0]["error"] == "there is no tool 'cal'"


async def test_call_ids_are_the_same_in_every_attempt_and_differ_between_calls() -> None:
    host, run = runtime(pattern=plugin("ThreeCalls")), request()

    first = payloads((await recorded(host, run))[1], "tool.called")
    second = payloads((await recorded(host, run))[1], "tool.called")

    assert [call["call_id"] for call in first] == [call["call_id"] for call in second]
    assert len({call["call_id"] for call in first}) == 3


@pytest.mark.parametrize("name", ["CallIdTool", "AsyncCallIdTool"])
async def test_a_tool_sees_the_id_of_its_call(name: str) -> None:
    _, events = await recorded(runtime(tools=tool(name)), request("/tool t x"))

    (called,), (succeeded,) = payloads(events, "tool.called"), payloads(events, "tool.succeeded")
    assert succeeded["result"] == called["call_id"]


async def test_a_result_that_utf_8_cannot_hold_reaches_the_model_in_part() -> None:
    host = runtime(tools=[{"id": "json_parse", "type": "json_parse"}])
    text = json.dumps({"text": json.dumps(["caf\udce9"])})

    result = await host.run_detailed(request(f"/tool json_parse {text}"))

    assert result.stop_reason is StopReason.COMPLETED
    assert "caf" in result.final_output
    result.model_dump_json()


async def test_a_batch_has_one_outcome_per_call() -> None:
    result, events = await recorded(runtime(pattern=plugin("ThreeCalls")), request())

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert "zero" in result.final_output[1]
    called = [call["call_id"] for call in payloads(events, "tool.called")]
    assert payloads(events, "tool.batch.started")[0]["call_ids"] == called[:2]
    completed = payloads(events, "tool.batch.completed")[0]
    assert (completed["successes"], completed["failures"]) == (1, 1)


async def test_a_plain_tool_runs_in_a_thread_while_the_loop_goes_on(blocked: threading.Event) -> None:
    host, called = runtime(tools=tool("ThreadTool")), asyncio.Event()
    host.event_bus.subscribe("tool.called", lambda _: called.set())
    run = asyncio.create_task(host.execute(request("/tool t x")))

    await called.wait()
    blocked.set()

    assert "runlane-tool" in (await run).final_output


async def test_a_tool_that_takes_too_long_is_a_timeout_for_the_model(blocked: threading.Event) -> None:
    result = await runtime(tools=tool("ThreadTool", timeout_ms=20)).execute(request("/tool t x"))

    assert result.final_output == "t says: Error: the tool took longer than 20 ms"


async def test_code_that_outlives_its_run_is_known_until_it_ends(blocked: threading.Event) -> None:
    host, run = runtime(tools=tool("ThreadTool")), ScopedRunId("r1")

    result = await host.execute(request("/tool t x", run_id="r1", budget=RunBudget(max_duration_ms=200)))

    assert result.stop_reason is StopReason.TIMEOUT
    assert host.has_live_code(run)
    blocked.set()
    async with asyncio.timeout(5):
        await host.code_ended(run)
    assert not host.has_live_code(run)


async def test_a_preflight_is_done_once_per_session_and_its_failure_fails_the_run() -> None:
    working, broken = runtime(tools=tool("PreflightTool")), runtime(tools=tool("PreflightTool", broken=True))

    outcomes = [payloads((await recorded(working, request()))[1], "tool.preflight")[0]["result"] for _ in range(2)]
    result, events = await recorded(broken, request())

    assert outcomes == ["ok", "cached-ok"]
    assert payloads(events, "tool.preflight")[0]["result"] == "error"
    assert result.error_details is not None
    assert result.error_details.message == "the tool 't' cannot work: no such server"


@pytest.mark.parametrize(("success", "answer"), [(True, "the data"), (False, "Error: said no")])
async def test_a_tool_may_return_a_result_of_its_own(success: bool, answer: str) -> None:
    result, events = await recorded(runtime(tools=tool("ResultTool", success=success)), request("/tool t x"))

    assert result.final_output == f"t says: {answer}"
    if success:
        assert payloads(events, "tool.succeeded")[0]["executor_metadata"] == {"tries": 2}


async def test_an_executor_decides_what_becomes_of_a_call() -> None:
    result = await runtime(tool_executor={"impl": "tests.unit.kernel_plugins.RefusingExecutor"}).execute(
        request("/tool calc 1+1")
    )

    assert result.final_output == "calc says: Error: not today"


async def test_a_pause_at_the_guard_does_not_count_against_the_step() -> None:
    async def pause() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, over.set)
        await over.wait()

    host = runtime(pattern={"type": "react", "config": {"step_timeout_ms": 250}})

    result = await host.execute(request("/tool calc 1+1"), RunScope(guard=pause))

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
