"""Plugins for runs that take durable steps, wait for a person, or delegate. They journal as those of plugins.py do."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from runtime_core.contracts.context import RunContext
from runtime_core.llm.protocol import LLMRequest
from runtime_core.plugins.builtin.pattern.base import Pattern
from tests.integration.fleet.plugins import write_down


class Steps(Pattern):
    """``<steps> <seconds>``: asks the model and calls the tool ``note``, so many times, with a pause behind each."""

    async def execute(self) -> dict[str, Any]:
        steps, seconds = self.context.input_text.split()
        said: list[str] = []
        for step in range(int(steps)):
            request = LLMRequest(messages=[{"role": "user", "content": f"step {step}"}])
            said.append((await self.request_llm(request)).output_text)
            await self.call_tool("note", {"step": step})
            self.context.state["steps"] = step + 1
            await asyncio.sleep(float(seconds))
        return {"said": said, "attempt": self.context.scope.attempt, "state": self.context.state["steps"]}


class Note:
    """Journals its calls, and those of the session that it sees before."""

    name = "note"

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        write_down("note", context, step=params["step"], attempt=context.scope.attempt)
        return f"noted {params['step']}"


class Careful:
    """Needs a person."""

    name = "careful"
    requires_approval = True

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        write_down("careful", context, query=params.get("query"), attempt=context.scope.attempt)
        return f"did {params.get('query')}"


class Impatient(Careful):
    """Does not wait for long."""

    approval_timeout_ms = 200


class Deeper(Pattern):
    """``<depth> <seconds>``: delegates to its own agent until the depth is 0, then takes that long. With ``to`` in its
    config it hands its input on to that agent, once.
    """

    async def execute(self) -> Any:
        depth, seconds = self.context.input_text.split()
        write_down("deep", self.context, depth=int(depth), attempt=self.context.scope.attempt)
        if depth == "0":
            await asyncio.sleep(float(seconds))
            self.context.usage.tool_calls += 1
            return "the bottom"
        options = {"session_isolation": self.config["isolation"]} if "isolation" in self.config else {}
        router: Any = self.context.agent_router
        self.context.state["depth"] = int(depth)
        to, text = self.context.agent_id, f"{int(depth) - 1} {seconds}"
        if "to" in self.config:
            to, text = self.config["to"], self.context.input_text
        result = await router.delegate(to, text, self.context, **options)
        return {"child": result.run_id, "output": result.final_output}


class Fact(BaseModel):
    """What the agent ``facts`` answers with."""

    name: str
    size: int


class Facts(Pattern):
    """Answers with its input; the second time, if that did not fit, with what does."""

    async def execute(self) -> Any:
        if self.context.scratch.pop("last_validation_error", None) is not None:
            return {"name": "corrected", "size": 2}
        return self.context.input_text
