"""Pattern ``plan_execute``: the model writes a plan, then carries it out."""

from __future__ import annotations

import json
from typing import Any, cast

from runtime_core.llm.protocol import LLMRequest
from runtime_core.plugins.builtin.pattern.tool_loop import ToolLoop, ToolLoopConfig

_PLANNING = (
    "You plan for an agent. Write a plan, step by step, for what the user asks. Answer with JSON alone:\n"
    '{"plan": [{"step": 1, "action": "tool_call", "tool": "<tool>", "params": {}}, '
    '{"step": 2, "action": "final", "content": "<what to answer>"}]}'
)
_EXECUTING = (
    "You carry out a plan, with tools where a step needs one. If a step fails, note that and go on with the others."
    " When all is done, answer the user."
)


class PlanExecutePattern(ToolLoop):
    """Phases ``planning`` and ``executing``; the plan is in the event ``pattern.plan_created`` and in ``scratch``.

    What the model plans binds nobody: in the second phase it works as in ``react``, with the plan before its eyes. An
    answer that is no plan is an empty one.
    """

    class Config(ToolLoopConfig):
        system_prompt: str = _EXECUTING

    async def prepare(self) -> str:
        await self.emit("pattern.phase", phase="planning")
        plan = _plan_in((await self.request_llm(self._planning())).output_text)
        self.context.scratch["_plan"] = plan
        await self.emit("pattern.phase", phase="executing")
        await self.emit("pattern.plan_created", plan=plan)
        written = json.dumps(plan, ensure_ascii=False, indent=2)
        return f"{self.cfg.system_prompt}\n\nThe plan:\n{written}" if plan else str(self.cfg.system_prompt)

    def _planning(self) -> LLMRequest:
        described = [f"- {tool_id}: {tool.describe().get('description', '')}" for tool_id, tool in self.tools()]
        prompt = "\n".join([_PLANNING, "Tools:", *(described or ["none"])])
        return self.request_with(self.opening(prompt), tools=[])


def _plan_in(text: str) -> list[dict[str, Any]]:
    """The plan in a model's answer, which may have words around it; empty if there is none."""
    start, end = text.find("{"), text.rfind("}")
    try:
        answer: Any = json.loads(text[start : end + 1])
    except ValueError:
        return []
    plan: Any = cast("dict[str, Any]", answer).get("plan") if isinstance(answer, dict) else None
    steps = cast("list[Any]", plan) if isinstance(plan, list) else []
    return [cast("dict[str, Any]", step) for step in steps if isinstance(step, dict)]
