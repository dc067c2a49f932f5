"""``Pattern``: the base class that saves a pattern the work of talking to tools, models and the event bus.

A pattern needs no base class. Those that take this one add ``execute`` and use the verbs below; every verb checks
that the run may go on, emits the run's events, and counts its usage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.routing import HandoffSignal
from runtime_core.contracts.run import ErrorDetails, RunArtifact
from runtime_core.errors import (
    ConfigError,
    LLMResponseError,
    ModelRetryError,
    PatternError,
    RunlaneError,
    ToolError,
    ToolNotFoundError,
)
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, Message, TextDelta
from runtime_core.llm.usage import check_cost_budget, record_llm_call
from runtime_core.plugins.builtin.executor.side_by_side import side_by_side
from runtime_core.plugins.builtin.pattern.run_notes import (
    announce_artifacts,
    next_call_id,
    note_retry_request,
    note_unknown_cost,
)
from runtime_core.suggestions import did_you_mean

#: In ``context_hints``: the run's reader wants text as the model writes it.
STREAMING_HINT = "__runtime_streaming__"


class Pattern:
    """How an agent works. One instance serves one session, one run after the other; ``context`` is the run's."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = config or {}
        self._context: RunContext[Any] | None = None

    @property
    def context(self) -> RunContext[Any]:
        if self._context is None:
            raise PatternError(f"{type(self).__name__} has no run", hint="a pattern works only inside a run")
        return self._context

    @context.setter
    def context(self, context: RunContext[Any] | None) -> None:
        self._context = context

    async def setup(self, context: RunContext[Any]) -> None:
        """Called before each run."""
        self._context = context

    async def finalize(self, raw: Any, output_type: type[BaseModel] | None) -> Any:
        """The run's output from what ``execute`` returned. Raises ModelRetryError to have it executed again."""
        if output_type is None:
            return raw
        try:
            if isinstance(raw, str):
                return output_type.model_validate_json(raw)
            return output_type.model_validate(raw)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'output'}: {problem['msg']}" for problem in error.errors()
            )
            raise ModelRetryError(f"the output is not a {output_type.__name__}: {problems}") from error

    async def emit(self, event_name: str, /, **payload: Any) -> None:
        """Emit an event of this run, after the artifacts that were added meanwhile."""
        await announce_artifacts(self.context)
        await self.context.event_bus.emit(event_name, **payload)

    def add_artifact(
        self, *, name: str, payload: Any, kind: str = "generic", metadata: dict[str, Any] | None = None
    ) -> None:
        """Add an artifact to the run's result; its event goes out with the next one."""
        self.context.artifacts.append(RunArtifact(name=name, kind=kind, payload=payload, metadata=metadata or {}))

    def compose_system_prompt(self, base: str) -> str:
        """``base`` and the fragments that skills and plugins added, as paragraphs."""
        paragraphs = (base, *self.context.system_prompt_fragments)
        return "\n\n".join(text.strip() for text in paragraphs if text.strip())

    async def call_tool(self, tool_id: str, params: dict[str, Any] | None = None) -> Any:
        """Call a tool and return its data.

        Raises a ToolError when the tool is unknown or fails, BudgetExhausted when no calls are left, LeaseLost.
        """
        return await self._call_tool(tool_id, params or {}, next_call_id(self.context, tool_id))

    async def _call_tool(self, tool_id: str, arguments: dict[str, Any], call_id: str) -> Any:
        context = self.context
        tool = context.tools.get(tool_id)
        await self._may_go_on()
        await self.emit("tool.called", tool_id=tool_id, params=arguments, call_id=call_id)
        try:
            if tool is None:
                known = ", ".join(sorted(context.tools)) or "none"
                hint = f"{did_you_mean(tool_id, context.tools)}Available tools: {known}"
                raise ToolNotFoundError(f"there is no tool {tool_id!r}", hint=hint, tool_id=tool_id)
            outcome = await tool.execute(arguments, call_id=call_id)
        except asyncio.CancelledError:
            await self.emit("tool.cancelled", tool_id=tool_id, call_id=call_id)
            raise
        except HandoffSignal as signal:
            output = signal.result.final_output
            await self.emit("tool.succeeded", tool_id=tool_id, result=output, executor_metadata={}, call_id=call_id)
            raise
        except BaseException as error:
            details = ErrorDetails.from_exception(error).model_dump()
            told = {"tool_id": tool_id, "error": _message(error), "call_id": call_id}
            if (attempt := note_retry_request(context, tool_id, error)) is not None:
                await self.emit("tool.retry_requested", attempt=attempt, **told)
            await self.emit("tool.failed", error_details=details, **told)
            raise
        context.tool_results.append({"tool_id": tool_id, "result": outcome.data})
        await self.emit(
            "tool.succeeded",
            tool_id=tool_id,
            result=outcome.data,
            executor_metadata=dict(outcome.metadata),
            call_id=call_id,
        )
        return outcome.data

    async def call_tool_batch(self, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Call tools; one outcome per request, in their order: data, or the ToolError that ended it.

        They go one after the other, or those that may side by side if the tool executor says how many.
        """
        context = self.context
        batch_id = next_call_id(context, "batch")
        call_ids = [next_call_id(context, tool_id) for tool_id, _ in requests]
        await self.emit("tool.batch.started", batch_id=batch_id, call_ids=call_ids, concurrent_count=len(requests))
        limit: int = getattr(context.tool_executor, "max_concurrency", 1)
        calls = [
            (limit > 1 and self._may_go_beside(tool_id), partial(self._outcome, tool_id, params, call_id))
            for (tool_id, params), call_id in zip(requests, call_ids, strict=True)
        ]
        outcomes = await side_by_side(calls, limit=limit)
        failures = sum(isinstance(outcome, ToolError) for outcome in outcomes)
        await self.emit(
            "tool.batch.completed", batch_id=batch_id, successes=len(outcomes) - failures, failures=failures
        )
        return outcomes

    def _may_go_beside(self, tool_id: str) -> bool:
        tool = self.context.tools.get(tool_id)
        return tool is not None and bool(tool.execution_spec().concurrency_safe)

    async def _outcome(self, tool_id: str, params: dict[str, Any], call_id: str) -> Any:
        try:
            return await self._call_tool(tool_id, params, call_id)
        except ToolError as error:
            return error

    async def call_llm(
        self,
        *,
        messages: list[Message],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: list[dict[str, Any]] | None = None,
        **_unsupported: Any,
    ) -> str:
        """The text of the model's answer."""
        request = LLMRequest(
            messages=messages, tools=tools or [], model=model, temperature=temperature, max_tokens=max_tokens
        )
        return (await self.request_llm(request)).output_text

    async def request_llm(self, request: LLMRequest) -> LLMResponse:
        """The model's whole answer; its text goes out as it arrives.

        Raises an LLMError, ConfigError, LeaseLost, and BudgetExhausted if the run may not or must not have cost more.
        """
        client = self.context.llm_client
        if client is None:
            raise ConfigError("the agent has no model", hint="add an llm section to the agent")
        model = request.model or client.model_id
        budget = self.context.run_request.budget
        check_cost_budget(budget, self.context.usage)
        await self._may_go_on()
        await self.emit("llm.called", model=model, has_tools=bool(request.tools))
        started = time.monotonic()
        try:
            response, ttft_ms = await self._stream_llm(cast("LLMClient", client), request, started)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            details = ErrorDetails.from_exception(error).model_dump()
            latency_ms = round((time.monotonic() - started) * 1000, 3)
            known = {"model": model, "latency_ms": latency_ms}
            await self.emit("llm.failed", error=_message(error), error_details=details, **known)
            raise
        latency_ms = (time.monotonic() - started) * 1000
        latencies = self.context.scratch.setdefault("llm_latencies_ms", [])
        record_llm_call(self.context.usage, response.usage, latencies, latency_ms=latency_ms, ttft_ms=ttft_ms)
        await self.emit(
            "llm.succeeded",
            model=response.model or model,
            output_text=response.output_text,
            tool_calls=[call.name for call in response.tool_calls],
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            cached_tokens=response.usage.cached_tokens,
            latency_ms=round(latency_ms, 3),
            ttft_ms=None if ttft_ms is None else round(ttft_ms, 3),
        )
        await self.emit("usage.updated", usage=self.context.usage.model_dump())
        await note_unknown_cost(self.context)
        check_cost_budget(budget, self.context.usage, spent=True)
        return response

    async def _stream_llm(
        self, client: LLMClient, request: LLMRequest, started: float
    ) -> tuple[LLMResponse, float | None]:
        streaming = bool(self.context.run_request.context_hints.get(STREAMING_HINT))
        ttft_ms: float | None = None
        async with aclosing(cast("Any", client.stream(request))) as parts:
            async for part in parts:
                if isinstance(part, LLMResponse):
                    return part, ttft_ms
                if isinstance(part, TextDelta):
                    if ttft_ms is None:
                        ttft_ms = (time.monotonic() - started) * 1000
                    if streaming:
                        await self.emit("llm.delta", text=part.text)
        raise LLMResponseError(f"the provider {client.provider_name} ended its stream without an answer")

    async def _may_go_on(self) -> None:
        """Wait until the run may act. A wait here, in an outage, does not count against the step's time."""
        with self.context.deadlines.paused():
            await self.context.scope.guard()


def _message(error: BaseException) -> str:
    return error.message if isinstance(error, RunlaneError) else str(error) or type(error).__name__
