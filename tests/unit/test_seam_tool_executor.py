"""Every tool executor of the registry, driven through the same calls; and what each adds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.run import RunBudget, RunResult, StopReason
from runtime_core.contracts.tool import ToolExecutionRequest
from runtime_core.errors import ToolCancelledError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.executor.filesystem_aware import FilesystemAwareExecutor
from runtime_core.plugins.builtin.executor.retry import RetryToolExecutor
from runtime_core.plugins.builtin.executor.safe import SafeToolExecutor
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.executor_plugins import Beside, Flaky, Meeting, Ordered
from tests.unit.kernel_setup import config, names, recorded, request

PLUGINS = "tests.unit.executor_plugins"
EXECUTORS = sorted(BUILTINS[Seam.TOOL_EXECUTOR])
TOOLS = ("Meeting", "Ordered", "Beside", "Flaky", "Endless", "Streaming", "Retrying", "Quitting", "Busy", "Careless")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Ordered.log.clear()
    Meeting.expected, Meeting.here, Meeting.most, Meeting.met = 2, 0, 0, asyncio.Event()
    Flaky.left = None


def host(executor: str | dict[str, Any] | None, *, pattern: str | None = None, **settings: Any) -> Runtime:
    ref = {"type": executor, "config": settings} if isinstance(executor, str) else executor
    tools = [{"id": name.lower(), "impl": f"{PLUGINS}.{name}"} for name in TOOLS]
    tools += [{"id": "calc", "type": "calc"}, {"id": "work", "impl": f"{PLUGINS}.Worker"}]
    changes: dict[str, Any] = {"tools": tools} | ({"tool_executor": ref} if ref else {})
    if pattern is not None:
        changes["pattern"] = {"impl": f"{PLUGINS}.{pattern}"}
    return Runtime.from_dict(config(**changes))


def asking(tool: str, **params: Any) -> ToolExecutionRequest:
    nothing: Any = None
    return ToolExecutionRequest(tool_id=tool, tool=nothing, params=params, context=nothing, call_id="c")


def payload(events: list[RuntimeEvent], name: str) -> dict[str, Any]:
    return next(event.payload for event in events if event.name == name)


async def called(runtime: Runtime, text: str, **fields: Any) -> tuple[RunResult, list[RuntimeEvent]]:
    result, events = await recorded(runtime, request(text, **fields))
    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    return result, events


@pytest.mark.parametrize("executor", EXECUTORS)
async def test_an_executor_calls_tells_of_failures_and_streams(executor: str) -> None:
    runtime = host(executor)

    result, events = await called(runtime, "/tool calc 6*7")
    assert result.final_output == 'calc says: {"expression":"6*7","result":42}'
    assert payload(events, "tool.succeeded")["result"]["result"] == 42

    result, events = await called(runtime, "/tool calc 6*")
    assert payload(events, "tool.failed")["error_details"]["code"] == "tool.validation"
    assert result.usage.tool_calls == 1

    result, events = await called(runtime, "/tool streaming to_be")
    assert [event.payload["chunk"]["text"] for event in events if event.name == "tool.delta"] == ["to", "be"]
    assert payload(events, "tool.succeeded")["result"] == "said"

    result, events = await called(runtime, "/tool streaming to_bad")
    assert payload(events, "tool.failed")["error_details"]["code"] == "tool.permanent"
    await runtime.close()


@pytest.mark.parametrize("executor", [None, *EXECUTORS])
async def test_a_call_that_is_cancelled_says_so(executor: str | None) -> None:
    result, events = await recorded(host(executor), request("/tool endless x", budget=RunBudget(max_duration_ms=50)))
    assert result.stop_reason is StopReason.TIMEOUT
    assert "tool.cancelled" in names(events)


@pytest.mark.parametrize("executor", [None, *EXECUTORS])
async def test_a_tool_that_cancels_itself_has_failed_and_the_run_goes_on(executor: str | None) -> None:
    _, events = await called(host(executor), "/tool quitting x")
    details = payload(events, "tool.failed")["error_details"]
    assert (details["code"], details["retryable"]) == (ToolCancelledError.code, False)


async def test_a_parameter_that_a_tool_misses_is_told_as_such() -> None:
    result, _ = await called(host(None), "/tool careless x")
    assert result.final_output == "careless says: Error: KeyError: 'city'"


async def test_safe_ends_a_call_that_takes_too_long() -> None:
    _, events = await called(host("safe", default_timeout_ms=20), "/tool endless x")
    assert payload(events, "tool.failed")["error_details"]["code"] == "tool.timeout"


async def test_safe_may_keep_the_parts_of_a_stream_to_itself() -> None:
    _, events = await called(host("safe", allow_stream_passthrough=False), "/tool streaming to_be")
    assert "tool.delta" not in names(events)
    assert payload(events, "tool.succeeded")["result"] == "said"


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        ("git log", None),
        ("rm -rf x", "'rm' is not among"),
        ("/bin/git log", "is a path"),
        ("", "no command"),
        ("'", "no command"),
    ],
)
async def test_safe_allows_programs_by_name(command: str, refused: str | None) -> None:

    executor = SafeToolExecutor({"command_allowlist": ["git"]})
    for tool in ("shell_exec", "execute_command"):
        decision = await executor.evaluate_policy(asking(tool, command=command))
        assert decision.allowed is (refused is None)
        assert refused is None or refused in decision.reason


async def test_safe_knows_a_tool_that_starts_programs_whatever_its_id() -> None:
    tool = {"id": "run", "type": "shell_exec", "config": {"command_allowlist": ["echo", "git"]}}
    executor = {"type": "safe", "config": {"command_allowlist": ["git"]}}
    _, events = await called(Runtime.from_dict(config(tools=[tool], tool_executor=executor)), "/tool run echo x")
    assert "tool.succeeded" not in names(events)
    assert "'echo' is not among" in payload(events, "tool.failed")["error"]


async def test_safe_leaves_a_tool_the_time_that_its_own_config_gives() -> None:
    tool = {"id": "shell_exec", "type": "shell_exec", "config": {"command_allowlist": ["sleep"]}}
    executor = {"type": "safe", "config": {"default_timeout_ms": 1}}
    _, events = await called(
        Runtime.from_dict(config(tools=[tool], tool_executor=executor)), "/tool shell_exec sleep 0.1"
    )
    assert "tool.failed" not in names(events)
    assert payload(events, "tool.succeeded")["result"]["exit_code"] == 0


async def test_retry_tries_again_as_long_as_it_may_and_says_so() -> None:
    quick: dict[str, Any] = {"max_attempts": 3, "initial_delay_ms": 1, "jitter": "none"}
    result, events = await called(host("retry", **quick), "/tool flaky 2")
    metadata = payload(events, "tool.succeeded")["executor_metadata"]
    assert metadata == {
        "retry_attempts": 3,
        "retry_delays_ms": [1, 2],
        "retry_reasons": ["ToolRateLimitError", "ToolRateLimitError"],
    }
    assert result.usage.tool_calls == 1, "all tries are one call"
    Flaky.left = None
    _, events = await called(host("retry", **quick), "/tool flaky 3")
    assert payload(events, "tool.failed")["error_details"]["code"] == "tool.rate_limit"


@pytest.mark.parametrize(("jitter", "least"), [("none", 40), ("equal", 20), ("full", 0)])
def test_retry_waits_longer_each_time_and_as_long_as_it_is_told(jitter: str, least: int) -> None:

    executor = RetryToolExecutor({"initial_delay_ms": 10, "max_delay_ms": 50, "jitter": jitter})
    waits = [executor._wait_ms(3, 0) for _ in range(50)]
    assert least <= min(waits) <= max(waits) <= 40
    assert max(executor._wait_ms(9, 0) for _ in range(50)) <= 50
    assert executor._wait_ms(1, 400) == 400


async def test_retry_does_not_wait_for_longer_than_the_run_has() -> None:
    result, events = await recorded(host("retry"), request("/tool busy x", budget=RunBudget(max_duration_ms=1_000)))
    assert result.stop_reason is StopReason.COMPLETED
    failed = payload(events, "tool.failed")
    assert failed["error_details"]["code"] == "tool.rate_limit"


async def test_retry_honours_the_policy_of_the_executor_that_it_wraps() -> None:
    inner = {"type": "filesystem_aware", "config": {"deny_tools": ["calc"]}}
    _, events = await called(host("retry", inner=inner), "/tool calc 1")
    assert "is in deny_tools" in payload(events, "tool.failed")["error"]


@pytest.mark.parametrize(
    ("settings", "params", "refused"),
    [
        ({"allow_tools": ["other"]}, {}, "not in allow_tools"),
        ({"read_roots": ["{root}"]}, {"path": "{root}/a"}, None),
        ({"read_roots": ["{root}"]}, {"path": "{root}/../a"}, "outside read_roots"),
        ({"read_roots": ["{root}"]}, {"path": "{root}/link/a"}, "outside read_roots"),
        ({"read_roots": ["{root}"]}, {"cwd": "/etc"}, "outside read_roots"),
        ({"write_roots": ["{root}"]}, {"path": "/etc/passwd"}, None),
        ({}, {"path": "/etc/passwd"}, None),
    ],
)
async def test_filesystem_aware_knows_where_files_may_be(
    settings: dict[str, Any], params: dict[str, str], refused: str | None, tmp_path: Path
) -> None:

    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    filled = {name: [value.format(root=root) for value in values] for name, values in settings.items()}
    asked = asking("read_file", **{name: value.format(root=root) for name, value in params.items()})
    decision = await FilesystemAwareExecutor(filled).evaluate_policy(asked)
    assert decision.allowed is (refused is None), decision.reason
    assert refused is None or refused in decision.reason


async def test_filesystem_aware_takes_a_relative_path_as_the_tool_does(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk")
    tool = {"id": "read_file", "type": "read_file", "config": {"root": str(tmp_path)}}
    for root, allowed in ((tmp_path, True), (Path.cwd(), False)):
        executor = {"type": "filesystem_aware", "config": {"read_roots": [str(root)]}}
        runtime = Runtime.from_dict(config(tools=[tool], tool_executor=executor))
        _, events = await called(runtime, "/tool read_file notes.txt")
        assert ("tool.succeeded" in names(events)) is allowed


async def test_the_policy_of_any_executor_is_asked_before_the_call() -> None:
    _, events = await called(host({"impl": f"{PLUGINS}.Strict"}), "/tool calc 1")
    assert "tool.succeeded" not in names(events)
    assert "nothing is" in payload(events, "tool.failed")["error"]


@pytest.mark.parametrize("name", ["retry", "concurrent_batch", "filesystem_aware"])
async def test_who_calls_an_executor_itself_meets_its_policy(name: str) -> None:
    denying = {"deny_tools": ["calc"]}
    inner = {"inner": {"type": "filesystem_aware", "config": denying}}
    settings = denying if name == "filesystem_aware" else inner
    executor: Any = load_plugin(Seam.TOOL_EXECUTOR, PluginRef(type=name, config=settings))
    result = await executor.execute(asking("calc"))
    assert not result.success
    assert "is in deny_tools" in str(result.error)


async def test_calls_of_a_batch_go_side_by_side_where_they_may() -> None:
    result, events = await called(host("concurrent_batch", pattern="Batch"), "meeting:1 meeting:2 ordered:3")
    assert result.final_output == ["met 1", "met 2", "3"]
    assert Meeting.most == 2
    assert payload(events, "tool.batch.completed") == {
        "batch_id": payload(events, "tool.batch.started")["batch_id"],
        "successes": 3,
        "failures": 0,
    }


async def test_no_more_go_side_by_side_than_is_allowed() -> None:
    Meeting.expected = 1
    await called(
        host("concurrent_batch", pattern="Batch", max_concurrency=2), " ".join(f"meeting:{n}" for n in range(6))
    )
    assert Meeting.most <= 2


async def test_a_call_that_may_not_go_beside_others_keeps_its_place() -> None:
    result, _ = await called(host("concurrent_batch", pattern="Batch"), "beside:1 beside:2 ordered:3 beside:4")
    assert result.final_output == ["1", "2", "3", "4"]
    assert Beside.log.index("begins 2") < Beside.log.index("ends 1"), "these two go side by side"
    assert Beside.log[-4:] == ["begins 3", "ends 3", "begins 4", "ends 4"]


async def test_a_batch_without_such_an_executor_goes_one_after_the_other() -> None:
    await called(host(None, pattern="Batch"), "beside:1 beside:2")
    assert Beside.log == ["begins 1", "ends 1", "begins 2", "ends 2"]


async def test_the_first_that_ends_the_run_ends_the_others() -> None:
    Meeting.expected = 9
    runtime = host("concurrent_batch", pattern="Batch")
    result, events = await recorded(
        runtime, request("meeting:1 meeting:2 meeting:3", budget=RunBudget(max_tool_calls=2))
    )
    assert result.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert names(events).count("tool.cancelled") == 2


async def test_a_tool_that_wants_other_arguments_asks_the_model_as_often_as_the_budget_says() -> None:
    _, events = await recorded(host(None), request("/tool retrying x"))
    asked = payload(events, "tool.retry_requested")
    assert (asked["tool_id"], asked["attempt"], asked["error"]) == ("retrying", 1, "say it in Latin")
    _, events = await recorded(host(None), request("/tool retrying x", budget=RunBudget(max_validation_retries=0)))
    assert "tool.retry_requested" not in names(events)


async def test_a_job_in_the_background_shows_in_the_events_of_its_run() -> None:
    result, events = await called(host(None, pattern="Background"), "go")
    assert result.final_output == ["done", True]
    seen = [(event.name, event.payload.get("status")) for event in events if event.name.startswith("tool.background")]
    assert seen == [
        ("tool.background.submitted", None),
        ("tool.background.polled", "running"),
        ("tool.background.polled", "succeeded"),
        ("tool.background.completed", "succeeded"),
    ]
    assert result.usage.tool_calls == 1
    without = host(None, pattern="Background")
    without.config.agents[0].tools[-1].impl = f"{PLUGINS}.Endless"
    failed, _ = await recorded(without, request("go"))
    assert failed.error_details is not None
    assert "has no invoke_background" in failed.error_details.message
