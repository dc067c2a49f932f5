"""Every diagnostics plugin of the registry, driven through the same runs; and what a failed run leaves."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from runtime_core.contracts.diagnostics import ErrorSnapshot, LLMCallMetrics
from runtime_core.contracts.run import RunBudget, RunResult, StopReason
from runtime_core.errors import PluginLoadError
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.diagnostics.rich import RichDiagnostics
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS, ONLY_IN_SDK
from tests.unit.kernel_setup import config, plugin, recorded, request

DIAGNOSTICS = sorted(BUILTINS[Seam.DIAGNOSTICS])
TOOLS = [{"id": "calc", "type": "calc"}, {"id": "exit", **plugin("ExitingTool")}]


def host(diagnostics: dict[str, Any] | None, **changes: Any) -> Runtime:
    section = {} if diagnostics is None else {"diagnostics": diagnostics}
    return Runtime.from_dict(config(tools=TOOLS, **changes) | section)


async def failed(diagnostics: dict[str, Any] | None, text: str = "/tool exit x", **fields: Any) -> dict[str, Any]:
    """The snapshot that a run leaves which ends with its tool."""
    result, _ = await recorded(host(diagnostics), request(text, **fields))
    assert result.stop_reason is StopReason.FAILED
    return result.metadata["error_snapshot"]


class Noting:
    """Diagnostics that write down what they are told, and fail when they are asked to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.calls: list[LLMCallMetrics] = []
        self.ended: list[tuple[RunResult, ErrorSnapshot | None]] = []

    def record_llm_call(self, run_id: str, metrics: LLMCallMetrics) -> None:
        self.calls.append(metrics)
        if self.config.get("fails"):
            raise RuntimeError("no figures")

    async def on_run_complete(self, result: RunResult, snapshot: ErrorSnapshot | None) -> None:
        self.ended.append((result, snapshot))
        if self.config.get("fails"):
            raise RuntimeError("no ending")


@pytest.mark.parametrize("name", DIAGNOSTICS)
async def test_diagnostics_see_runs_and_leave_a_picture_of_one_that_failed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = host({"type": name})
    result, _ = await recorded(runtime, request("/tool calc 6*7"))
    assert result.stop_reason is StopReason.COMPLETED
    assert "error_snapshot" not in result.metadata
    assert runtime.diagnostics.get_run_metrics(result.run_id) == {}, "what was kept of a run goes with it"

    result, _ = await recorded(runtime, request("/tool exit x", run_id="failing"))
    snapshot = result.metadata["error_snapshot"]
    assert (snapshot["run_id"], snapshot["error_type"]) == ("failing", "PatternError")
    assert [call["tool_id"] for call in snapshot["tool_call_chain"]] == ["exit"]
    assert snapshot["last_events"][-1]["name"] == "session.run.completed"
    assert {"traceback", "state_snapshot"}.isdisjoint(snapshot), "these stay in the process"
    shown = capfd.readouterr().err
    assert ("SystemExit" in shown and "run failed" in shown) is (name == "rich")
    await runtime.close()


class Rude:
    """A pattern that fails with what a terminal acts on."""

    async def execute(self) -> str:
        raise RuntimeError("\x1b[2J[/b] gone")


async def test_what_a_run_failed_with_does_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    runtime = host({"type": "rich"}, pattern={"impl": f"{__name__}.Rude"})
    await recorded(runtime, request("hello"))
    await runtime.close()
    shown = capfd.readouterr().err
    assert "[/b] gone" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", ONLY_IN_SDK[Seam.DIAGNOSTICS])
def test_diagnostics_that_only_the_sdk_has_name_their_package_and_their_class_there(name: str) -> None:
    package, path = ONLY_IN_SDK[Seam.DIAGNOSTICS][name]
    with pytest.raises(PluginLoadError, match=f"(?s)needs the package '{package}'.*{path}"):
        host({"type": name})


async def test_figures_of_each_request_to_a_model_are_recorded() -> None:
    runtime = host({"impl": "tests.unit.test_seam_diagnostics.Noting"})
    await recorded(runtime, request("/tool calc 6*7"))
    first, second = runtime.diagnostics.calls
    assert (first.model, first.error) == ("mock", None)
    assert second.input_tokens > first.input_tokens > 0
    assert second.latency_ms >= 0
    ((result, snapshot),) = runtime.diagnostics.ended
    assert (result.stop_reason, snapshot) == (StopReason.COMPLETED, None)


async def test_diagnostics_never_break_a_run(caplog: pytest.LogCaptureFixture) -> None:
    runtime = host({"impl": "tests.unit.test_seam_diagnostics.Noting", "config": {"fails": True}})
    with caplog.at_level(logging.ERROR):
        result, _ = await recorded(runtime, request("hello"))
    assert result.final_output == "Echo: hello (history=0)"
    assert "no figures" in caplog.text
    assert "no ending" in caplog.text


async def test_a_run_that_fails_before_it_has_begun_leaves_a_picture_too() -> None:
    snapshot = await failed(None, agent="nobody")
    assert snapshot["error_code"] == "user.agent_not_found"
    assert snapshot["tool_call_chain"] == []


@pytest.mark.parametrize("keys", [None, ["pin", "api_key", "password"]])
async def test_secrets_do_not_show_in_a_snapshot(keys: list[str] | None) -> None:
    params = {"query": "x", "api_key": "sk-1", "pin": "1234", "nested": {"password": "hush"}}
    diagnostics = {"type": "null"} | ({"redact_keys": keys} if keys else {})
    shown = str((await failed(diagnostics, f"/tool exit {json.dumps(params)}"))["tool_call_chain"])
    assert "sk-1" not in shown
    assert "hush" not in shown
    assert ("1234" in shown) is (keys is None)


async def test_a_snapshot_has_as_many_events_as_it_was_asked_for_and_never_too_much() -> None:
    few = await failed({"type": "null", "error_snapshot_last_n": 3})
    assert len(few["last_events"]) == 3
    long = await failed({"type": "null", "error_snapshot_last_n": 1_000}, f"/tool exit {'x' * 5_000}")
    assert len(json.dumps(long)) < 20_000
    assert long["error_type"] == "PatternError"


async def test_a_run_that_runs_out_of_its_budget_has_failed_for_its_own_reason() -> None:
    result, _ = await recorded(host(None), request("/tool calc 1", budget=RunBudget(max_steps=1)))
    assert result.stop_reason is StopReason.MAX_STEPS
    assert result.metadata["error_snapshot"]["error_code"] == "execution.max_steps"


def test_figures_of_runs_that_never_end_here_do_not_pile_up() -> None:
    rich = RichDiagnostics()
    for number in range(3_000):
        rich.record_llm_call(f"r{number}", LLMCallMetrics(model="m", latency_ms=1.0))
    assert len(rich._calls) <= 1_000
