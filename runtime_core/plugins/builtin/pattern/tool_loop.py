"""The loop that the builtin patterns share: the model calls tools, sees their results, and goes on until it answers."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, PositiveInt

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.pattern import FollowupResolution, ResponseRepairDecision
from runtime_core.errors import MaxStepsExceeded, ToolError
from runtime_core.llm.protocol import LLMRequest, LLMResponse, LLMToolCall, Message
from runtime_core.plugins.builtin.pattern.base import Pattern
from runtime_core.plugins.builtin.pattern.history import messages_from_memory, text_for_model
from runtime_core.plugins.builtin.pattern.run_notes import STEP_KEY
from runtime_core.plugins.typed_config import TypedConfig

T = TypeVar("T")

#: Defaults for a pattern that no agent's runtime options have reached: iterations, milliseconds.
_MAX_STEPS = 16
_STEP_TIMEOUT_MS = 30_000


class ToolLoopConfig(BaseModel):
    #: Iterations: one request to the model and the tool calls it asks for. None: the agent's runtime.max_steps.
    max_steps: PositiveInt | None = None
    #: Milliseconds that one iteration may take, without pauses for an outage of the store. None: the agent's
    #: runtime.step_timeout_ms.
    step_timeout_ms: PositiveInt | None = None


class ToolLoop(TypedConfig, Pattern, ABC):
    """The model's own tool calling, in a loop of at most ``max_steps`` iterations.

    1. A tool that fails does not end the run: the model is told what went wrong and may try something else.
    2. An agent without a model answers ``Echo: <input>``.
    3. ``resolve_followup`` may answer instead of the model, ``repair_empty_response`` where the model said nothing; a
       subclass overrides them.
    """

    Config = ToolLoopConfig

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        Pattern.__init__(self)
        TypedConfig.__init__(self, config)
        self._messages: list[Message] = []
        self._functions: list[dict[str, Any]] = []
        #: What was wrong with the last output of this run.
        self._correction: dict[str, Any] | None = None

    async def execute(self) -> Any:
        context = self.context
        resolution = await self.resolve_followup(context=context)
        if resolution is not None and resolution.status == "resolved":
            context.state["resolved_by"] = "resolve_followup"
            return resolution.output
        if context.llm_client is None:
            return f"Echo: {context.input_text}"
        self._correction = context.scratch.pop("last_validation_error", None)
        self._messages = self.opening(await self._in_time(self.prepare(), "the preparation"))
        self._functions = [_function(tool_id, tool.describe()) for tool_id, tool in self.tools()]
        limit = self._max_steps()
        for step in range(limit):
            context.scratch[STEP_KEY] = step
            await self.emit("pattern.step_started", step=step)
            action = await self._in_time(self.react(), f"step {step}")
            await self.emit("pattern.step_finished", step=step, action=action)
            if action["type"] == "final":
                return action["content"]
        raise MaxStepsExceeded(
            f"the agent did not come to an answer in {limit} steps",
            hint="raise budget.max_steps of the request or max_steps of the pattern",
        )

    async def react(self) -> dict[str, Any]:
        """One iteration: ask the model, then call the tools it wants.

        Returns ``{"type": "final", "content": …}`` or ``{"type": "continue", "tools": […]}``.
        """
        response = await self.request_llm(self.request_with(list(self._messages), tools=self._functions))
        if not response.tool_calls:
            return {"type": "final", "content": response.output_text or await self._repaired(response)}
        self._messages.append(_assistant_message(response))
        for call, content in zip(response.tool_calls, await self._results_for_model(response.tool_calls), strict=True):
            self._messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})
        return {"type": "continue", "tools": [call.name for call in response.tool_calls]}

    async def resolve_followup(self, *, context: RunContext[Any]) -> FollowupResolution | None:
        """An answer that needs no model; None to ask it."""
        return None

    async def repair_empty_response(
        self,
        *,
        context: RunContext[Any],
        messages: list[Message],
        assistant_content: list[dict[str, Any]],
        stop_reason: str | None,
        retries: int,
    ) -> ResponseRepairDecision | None:
        """What to say where the model said nothing; None leaves it at that."""
        return None

    @abstractmethod
    async def prepare(self) -> str:
        """The pattern's system prompt; what is to happen before the loop happens here."""

    def after_tool(self, content: str, *, failed: bool) -> str:
        """What the model is told of a tool's result."""
        return content

    async def _repaired(self, response: LLMResponse) -> str:
        decision = await self.repair_empty_response(
            context=self.context,
            messages=list(self._messages),
            assistant_content=[],
            stop_reason=response.stop_reason,
            retries=0,
        )
        return decision.output if decision is not None and decision.status == "repaired" else ""

    async def _in_time(self, work: Coroutine[Any, Any, T], what: str) -> T:
        timeout_ms: int = self.cfg.step_timeout_ms or self.config.get("step_timeout_ms") or _STEP_TIMEOUT_MS
        deadline = asyncio.timeout(timeout_ms / 1000)
        try:
            async with deadline:
                with self.context.deadlines.counting(deadline):
                    return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(f"{what} took longer than its step_timeout_ms of {timeout_ms}") from error

    async def _results_for_model(self, calls: list[LLMToolCall]) -> list[str]:
        """What the model is told of each call. A batch is one durable step, so it is one only if that saves time."""
        if len(calls) > 1 and getattr(self.context.tool_executor, "max_concurrency", 1) > 1:
            sound = [call for call in calls if call.problem is None]
            outcomes = await self.call_tool_batch([(self._tool_id(call.name), call.arguments) for call in sound])
            told = dict(zip(map(id, sound), map(self._told, outcomes), strict=True))
            return [told.get(id(call), f"Error: {call.problem}") for call in calls]
        return [await self._result_for_model(call) for call in calls]

    async def _result_for_model(self, call: LLMToolCall) -> str:
        if call.problem is not None:
            return f"Error: {call.problem}"
        try:
            return self._told(await self.call_tool(self._tool_id(call.name), call.arguments))
        except ToolError as error:
            return self._told(error)

    def _told(self, outcome: Any) -> str:
        if not isinstance(outcome, ToolError):
            return self.after_tool(text_for_model(outcome), failed=False)
        hint = f" ({outcome.hint})" if outcome.hint else ""
        return self.after_tool(f"Error: {outcome.message}{hint}", failed=True)

    def _max_steps(self) -> int:
        """The smaller one of the request's budget and the pattern's config."""
        budget = self.context.run_request.budget
        own: int = self.cfg.max_steps or self.config.get("max_steps") or _MAX_STEPS
        return min(own, budget.max_steps or own) if budget else own

    def opening(self, system_prompt: str) -> list[Message]:
        context = self.context
        fragments = [self.compose_system_prompt(system_prompt)]
        if (retry := self._correction) is not None:
            fragments.append(
                f"Your last answer was not valid: {retry['message']}\nIts schema: {retry['expected_schema']}"
            )
        return [
            {"role": "system", "content": "\n\n".join(fragments)},
            *messages_from_memory(context.memory_view),
            {"role": "user", "content": context.input_text},
        ]

    def tools(self) -> list[tuple[str, Any]]:
        """The run's tools by id."""
        return sorted(self.context.tools.items())

    def request_with(self, messages: list[Message], *, tools: list[dict[str, Any]]) -> LLMRequest:
        """A request with the options of the agent's model."""
        options = self.context.llm_options
        return LLMRequest(
            messages=messages,
            tools=tools,
            model=getattr(options, "model", None),
            temperature=getattr(options, "temperature", None),
            max_tokens=getattr(options, "max_tokens", None),
        )

    def _tool_id(self, name: str) -> str:
        """The id under which the agent knows the tool; models are given ids, but may answer with a described name."""
        if name in self.context.tools:
            return name
        matches = [tool_id for tool_id, tool in self.context.tools.items() if tool.describe().get("name") == name]
        return matches[0] if matches else name


def _function(tool_id: str, description: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool_id,
            "description": description.get("description") or "",
            "parameters": description.get("parameters") or {"type": "object", "properties": {}},
        },
    }


def _assistant_message(response: LLMResponse) -> Message:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in response.tool_calls
    ]
    return {"role": "assistant", "content": response.output_text, "tool_calls": calls}
