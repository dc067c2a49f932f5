"""What a terminal shows of a run, and what a pipe gets."""

from __future__ import annotations

import json
import sys

import pytest

from producer.cli.local import invitation
from producer.cli.output import Output, ending
from runtime_core.config.loader import load_config_dict
from runtime_core.contracts.run import ErrorDetails, RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from tests.unit.kernel_setup import config


def chunk(kind: RunStreamChunkKind, result: RunResult | None = None, /, **payload: object) -> RunStreamChunk:
    return RunStreamChunk(kind=kind, run_id="r", sequence=1, payload=payload, result=result)


def finished(**fields: object) -> RunStreamChunk:
    return chunk(RunStreamChunkKind.RUN_FINISHED, RunResult.model_validate({"run_id": "r"} | fields))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    return Output()


def test_a_pipe_gets_one_json_object_per_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.chunk(chunk(RunStreamChunkKind.LLM_DELTA, text="a\nb"))
    output.chunk(finished(final_output="a\nb"))
    first, last = capsys.readouterr().out.splitlines()
    assert json.loads(first)["payload"] == {"text": "a\nb"}
    assert json.loads(last)["result"]["final_output"] == "a\nb"


def test_a_terminal_gets_the_words_as_one_text_and_not_twice(
    terminal: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("hello ", "[bold]you[/bold]"):
        terminal.chunk(chunk(RunStreamChunkKind.LLM_DELTA, text=word))
    terminal.chunk(chunk(RunStreamChunkKind.LLM_FINISHED, output_text="hello [bold]you[/bold]"))
    terminal.chunk(finished(final_output="hello [bold]you[/bold]"))
    assert capsys.readouterr().out == "hello [bold]you[/bold]\ncompleted\n"


def test_a_terminal_does_not_obey_what_a_model_says(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.chunk(chunk(RunStreamChunkKind.LLM_DELTA, text="a\x1b]52;c;eA==\x07b"))
    terminal.result(RunResult(run_id="r", final_output="\x9b31mred"))
    assert capsys.readouterr().out == "a\\x1b]52;c;eA==\\x07b\\x9b31mred\n"


def test_a_terminal_gets_an_output_that_was_not_streamed(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.chunk(finished(final_output={"answer": 42}))
    assert capsys.readouterr().out == '{\n  "answer": 42\n}\ncompleted\n'


def test_tools_are_lines_with_their_outcome(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.chunk(chunk(RunStreamChunkKind.TOOL_STARTED, tool_id="calc", params={"expression": "6*7"}))
    terminal.chunk(chunk(RunStreamChunkKind.TOOL_FINISHED, tool_id="calc", result=42))
    terminal.chunk(chunk(RunStreamChunkKind.TOOL_FINISHED, tool_id="calc", error="division by zero"))
    assert capsys.readouterr().out.splitlines() == [
        'calc {"expression": "6*7"}',
        "calc → 42",
        "calc → division by zero",
    ]


def test_a_gap_is_told_with_what_was_said_until_then(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = {"text": "so far", "status": "running", "attempt": 1, "open_tool_calls": []}
    terminal.chunk(chunk(RunStreamChunkKind.STREAM_GAP, **{"from": 2, "to": 9, "snapshot": snapshot}))
    terminal.chunk(chunk(RunStreamChunkKind.LLM_DELTA, text=", so good"))
    terminal.chunk(finished(final_output="so far, so good"))
    terminal.chunk(chunk(RunStreamChunkKind.STREAM_GAP, **{"from": 1, "to": 2, "snapshot": None}))
    assert capsys.readouterr().out.splitlines() == [
        "chunks 2 to 9 are no longer kept",
        "so far, so good",
        "completed",
        "chunks 1 to 2 are no longer kept",
    ]


def test_whose_chunks_follow_is_told_when_runs_take_turns(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    for run_id in ("parent", "parent", "child", "parent"):
        terminal.chunk(RunStreamChunk(kind=RunStreamChunkKind.LLM_DELTA, run_id=run_id, payload={"text": "x"}))
    assert capsys.readouterr().out.splitlines() == ["xx", "run child:", "x", "run parent:", "x"]


def test_a_failure_is_told_with_its_code_and_hint() -> None:
    details = ErrorDetails(code="tool.timeout", message="too slow", hint="wait longer")
    result = RunResult(run_id="r", stop_reason=StopReason.FAILED, error_details=details)
    assert ending(result) == "failed: too slow (tool.timeout)\n  hint: wait longer"


def test_up_invites_to_ask_an_agent_that_is_there() -> None:
    agents = config()
    agents["agents"][0]["id"] = "my agent"
    said = invitation("redis://127.0.0.1:1/0", load_config_dict(agents))
    assert "runlane run --agent 'my agent' --session s1" in said
