"""Every pattern of the registry, driven through the same runs; and what each adds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.pattern import FollowupResolution, ResponseRepairDecision
from runtime_core.contracts.run import RunBudget, RunResult, StopReason
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.llm.protocol import LLMRequest, LLMResponse
from runtime_core.plugins.builtin.pattern.plan_execute import PlanExecutePattern
from runtime_core.plugins.builtin.pattern.react import ReactPattern
from runtime_core.plugins.builtin.pattern.reflexion import ReflexionPattern
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.kernel_setup import config, names, plugin, recorded, request

PATTERNS = sorted(BUILTINS[Seam.PATTERN])
_CLASSES = {"react": ReactPattern, "reflexion": ReflexionPattern, "plan_execute": PlanExecutePattern}
TOOLS = [{"id": "calc", "type": "calc"}, {"id": "fail", **plugin("FailingTool")}]


async def run(
    pattern: dict[str, Any], text: str, *, llm: Any = ..., **fields: Any
) -> tuple[RunResult, list[RuntimeEvent]]:
    changes = {} if llm is ... else {"llm": llm}
    runtime = Runtime.from_dict(config(pattern=pattern, tools=TOOLS, **changes))
    try:
        return await recorded(runtime, request(text, **fields))
    finally:
        await runtime.close()


def phases(events: list[RuntimeEvent]) -> list[str]:
    return [event.payload["phase"] for event in events if event.name == "pattern.phase"]


@pytest.mark.parametrize("name", PATTERNS)
async def test_a_pattern_answers_calls_tools_and_outlives_their_failures(name: str) -> None:
    result, events = await run({"type": name}, "hello")
    assert (result.stop_reason, result.final_output) == (StopReason.COMPLETED, "Echo: hello (history=0)")
    assert names(events).count("pattern.step_started") == names(events).count("pattern.step_finished") == 1

    result, events = await run({"type": name}, "/tool calc 6*7")
    assert result.final_output == 'calc says: {"expression":"6*7","result":42}'
    assert [event.payload["tool_id"] for event in events if event.name == "tool.called"] == ["calc"]
    assert result.usage.llm_calls == 2 + (name == "plan_execute")

    result, _ = await run({"type": name}, "/tool fail now")
    assert result.stop_reason is StopReason.COMPLETED
    assert "the disk is full" in result.final_output


@pytest.mark.parametrize("name", PATTERNS)
async def test_a_pattern_without_a_model_echoes(name: str) -> None:
    result, _ = await run({"type": name}, "hello", llm=None)
    assert result.final_output == "Echo: hello"


@pytest.mark.parametrize("name", PATTERNS)
async def test_a_pattern_keeps_to_its_steps(name: str) -> None:
    result, _ = await run({"type": name, "config": {"max_steps": 1}}, "/tool calc 1")
    assert result.stop_reason is StopReason.MAX_STEPS
    result, _ = await run({"type": name}, "/tool calc 1", budget=RunBudget(max_steps=1))
    assert result.stop_reason is StopReason.MAX_STEPS


class Wanted(BaseModel):
    answer: int


@pytest.mark.parametrize("name", PATTERNS)
async def test_a_pattern_tells_the_model_what_was_wrong_with_its_answer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    async def request_llm(self: Any, asked: LLMRequest) -> LLMResponse:
        prompts.append(str(asked.messages[0]["content"]))
        return LLMResponse(output_text='{"answer": 42}' if "was not valid" in prompts[-1] else "about forty")

    monkeypatch.setattr(_CLASSES[name], "request_llm", request_llm)
    result, events = await run({"type": name}, "how many?", output_type=Wanted)
    assert result.final_output == Wanted(answer=42)
    assert names(events).count("validation.retry") == 1
    assert all("fits this schema" in prompt for prompt in prompts)


class Knowing(ReactPattern):
    """Answers one question by itself, and has something to say where the model has not."""

    async def resolve_followup(self, *, context: RunContext[Any]) -> FollowupResolution | None:
        if context.input_text == "and then?":
            return FollowupResolution(status="resolved", output="nothing")
        return FollowupResolution()

    async def repair_empty_response(self, **known: Any) -> ResponseRepairDecision | None:
        return ResponseRepairDecision(status="repaired", output=f"silence ({known['stop_reason']})")

    async def request_llm(self, request: LLMRequest) -> LLMResponse:
        return LLMResponse(output_text="", stop_reason="end_turn")


async def test_a_pattern_may_answer_a_follow_up_without_its_model() -> None:
    result, events = await run({"impl": "tests.unit.test_seam_pattern.Knowing"}, "and then?")
    assert result.final_output == "nothing"
    assert "pattern.step_started" not in names(events)


async def test_a_pattern_may_repair_an_empty_answer() -> None:
    result, _ = await run({"impl": "tests.unit.test_seam_pattern.Knowing"}, "hello")
    assert result.final_output == "silence (end_turn)"


@pytest.mark.parametrize(
    ("said", "plan"),
    [
        (
            'Here: {"plan": [{"step": 1, "action": "final", "content": "42"}, "noise"]} done',
            [{"step": 1, "action": "final", "content": "42"}],
        ),
        ('{"plan": "go"}', []),
        ("[1, 2]", []),
        ("no plan at all", []),
    ],
)
async def test_a_plan_is_made_shown_and_carried_out(
    said: str, plan: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    async def request_llm(self: Any, asked: LLMRequest) -> LLMResponse:
        prompts.append(str(asked.messages[0]["content"]))
        return LLMResponse(output_text=said if len(prompts) == 1 else "done")

    monkeypatch.setattr(PlanExecutePattern, "request_llm", request_llm)
    result, events = await run({"type": "plan_execute"}, "what is it?")
    assert result.final_output == "done"
    assert phases(events) == ["planning", "executing"]
    assert next(event.payload["plan"] for event in events if event.name == "pattern.plan_created") == plan
    assert "- calc: " in prompts[0], "who plans knows the tools"
    assert ('"content": "42"' in prompts[1]) is bool(plan)


async def test_reflexion_asks_for_a_second_thought_after_a_failure() -> None:
    result, events = await run({"type": "reflexion"}, "/tool fail now")
    assert "why did this fail" in result.final_output
    assert phases(events) == ["acting", "reflecting"]
    result, _ = await run({"type": "reflexion"}, "/tool calc 1")
    assert "why did this fail" not in result.final_output
