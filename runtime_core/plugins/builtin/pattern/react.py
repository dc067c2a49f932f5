"""Pattern ``react``: the model reasons, calls tools, sees their results, and goes on until it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, PositiveInt

from runtime_core.errors import MaxStepsExceeded, ToolError
from runtime_core.llm.protocol import LLMRequest, LLMResponse, LLMToolCall, Message
from runtime_core.plugins.builtin.pattern.base import Pattern
from runtime_core.plugins.builtin.pattern.history import messages_from_memory, text_for_model
from runtime_core.plugins.builtin.pattern.run_notes import STEP_KEY
from runtime_core.plugins.typed_config import TypedConfig

_SYSTEM_PROMPT = (
    "You are a helpful assistant. Use the tools you are given when they help; when you know enough, answer the user."
)

#: Defaults for a pattern that no agent's runtime options have reached: iterations, milliseconds.
_MAX_STEPS = 16
_STEP_TIMEOUT_MS = 30_000


class ReactPattern(TypedConfig, Pattern):
    """The model's own tool calling, in a loop of at most ``max_steps`` iterations.

    A tool that fails does not end the run: the model is told what went wrong and may try something else. An agent
    without a model answers ``Echo: <input>``.
    """

    class Config(BaseModel):
        #: Iterations: one request to the model and the tool calls it asks for. None: the agent's runtime.max_steps.
        max_steps: PositiveInt | None = None
        #: Milliseconds that one iteration may take, without pauses for an outage of the store. None: the agent's
        #: runtime.step_timeout_ms.
        step_timeout_ms: PositiveInt | None = None
        system_prompt: str = _SYSTEM_PROMPT

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        Pattern.__init__(self)
        TypedConfig.__init__(self, config)
        self._messages: list[Message] = []
        self._functions: list[dict[str, Any]] = []

    async def execute(self) -> Any:
        context = self.context
        if context.llm_client is None:
            return f"Echo: {context.input_text}"
        self._messages = self._opening()
        self._functions = [_function(tool_id, tool.describe()) for tool_id, tool in sorted(context.tools.items())]
        limit = self._max_steps()
        for step in range(limit):
            context.scratch[STEP_KEY] = step
            await self.emit("pattern.step_started", step=step)
            action = await self._step(step)
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
        response = await self.request_llm(self._request())
        if not response.tool_calls:
            return {"type": "final", "content": response.output_text}
        self._messages.append(_assistant_message(response))
        for call, content in zip(response.tool_calls, await self._results_for_model(response.tool_calls), strict=True):
            self._messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})
        return {"type": "continue", "tools": [call.name for call in response.tool_calls]}

    async def _step(self, step: int) -> dict[str, Any]:
        timeout_ms: int = self.cfg.step_timeout_ms or self.config.get("step_timeout_ms") or _STEP_TIMEOUT_MS
        deadline = asyncio.timeout(timeout_ms / 1000)
        try:
            async with deadline:
                with self.context.deadlines.counting(deadline):
                    return await self.react()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(f"step {step} took longer than its step_timeout_ms of {timeout_ms}") from error

    async def _results_for_model(self, calls: list[LLMToolCall]) -> list[str]:
        """What the model is told of each call. A batch is one durable step, so it is one only if that saves time."""
        if len(calls) > 1 and getattr(self.context.tool_executor, "max_concurrency", 1) > 1:
            sound = [call for call in calls if call.problem is None]
            outcomes = await self.call_tool_batch([(self._tool_id(call.name), call.arguments) for call in sound])
            told = dict(zip(map(id, sound), map(_told, outcomes), strict=True))
            return [told.get(id(call), f"Error: {call.problem}") for call in calls]
        return [await self._result_for_model(call) for call in calls]

    async def _result_for_model(self, call: LLMToolCall) -> str:
        if call.problem is not None:
            return f"Error: {call.problem}"
        try:
            return _told(await self.call_tool(self._tool_id(call.name), call.arguments))
        except ToolError as error:
            return _told(error)

    def _max_steps(self) -> int:
        """The smaller one of the request's budget and the pattern's config."""
        budget = self.context.run_request.budget
        own: int = self.cfg.max_steps or self.config.get("max_steps") or _MAX_STEPS
        return min(own, budget.max_steps or own) if budget else own

    def _opening(self) -> list[Message]:
        context = self.context
        fragments = [self.compose_system_prompt(self.cfg.system_prompt)]
        if (retry := context.scratch.pop("last_validation_error", None)) is not None:
            fragments.append(
                f"Your last answer was not valid: {retry['message']}\nIts schema: {retry['expected_schema']}"
            )
        return [
            {"role": "system", "content": "\n\n".join(fragments)},
            *messages_from_memory(context.memory_view),
            {"role": "user", "content": context.input_text},
        ]

    def _request(self) -> LLMRequest:
        options = self.context.llm_options
        return LLMRequest(
            messages=list(self._messages),
            tools=self._functions,
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


def _told(outcome: Any) -> str:
    if isinstance(outcome, ToolError):
        return f"Error: {outcome.message}" + (f" ({outcome.hint})" if outcome.hint else "")
    return text_for_model(outcome)


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
