"""Calling one tool: with a time limit, and with every failure as a ToolError in the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest, ToolExecutionResult
from runtime_core.errors import LeaseLost, PermanentToolError, ToolCancelledError, ToolError, ToolTimeoutError
from runtime_core.foreign_errors import as_ours
from runtime_core.wording import in_words


class DirectToolExecutor:
    """Calls the tool, for at most its ``execution_spec().default_timeout_ms``, whatever it is. Others build on it."""

    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision:
        """Whether the call may be made; everything may."""
        return PolicyDecision(allowed=True)

    async def execute(self, request: ToolExecutionRequest) -> ToolExecutionResult:
        try:
            await self._check_policy(request)
            return await call_tool(request, self.timeout_ms(request))
        except PermanentToolError as refused:
            return failed_result(request.tool_id, refused, None)

    async def execute_stream(self, request: ToolExecutionRequest) -> AsyncGenerator[Any]:
        """The tool's parts, see Tool.invoke_stream. Raises a ToolError for whatever fails."""
        await self._check_policy(request)
        async with aclosing(stream_tool(request, self.timeout_ms(request))) as parts:
            async for part in parts:
                yield part

    def timeout_ms(self, request: ToolExecutionRequest) -> int | None:
        """Milliseconds that the call may take; None for ever."""
        return request.execution_spec.default_timeout_ms

    async def _check_policy(self, request: ToolExecutionRequest) -> None:
        refuse_unless(await self.evaluate_policy(request), request.tool_id)


def refuse_unless(decision: PolicyDecision, tool_id: str) -> None:
    """Raises PermanentToolError for a call that a policy refuses."""
    if not decision.allowed:
        raise PermanentToolError(
            f"the call is not allowed: {decision.reason or 'the tool executor refuses it'}",
            hint="go on without it, or call the tool in another way",
            tool_id=tool_id,
        )


async def call_tool(request: ToolExecutionRequest, timeout_ms: int | None) -> ToolExecutionResult:
    """``invoke`` of the tool, for at most ``timeout_ms`` milliseconds. Raises LeaseLost, and CancelledError if the call
    is cancelled from outside.
    """
    deadline = asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000)
    try:
        async with deadline:
            data = await request.tool.invoke(request.params, request.context)
    except BaseException as error:
        problem = _tool_error(error, deadline, timeout_ms)
        if problem is None:
            raise
        return failed_result(request.tool_id, problem, error)
    return ToolExecutionResult(tool_id=request.tool_id, success=True, data=data)


async def stream_tool(request: ToolExecutionRequest, timeout_ms: int | None) -> AsyncGenerator[Any]:
    """``invoke_stream`` of the tool, as ``call_tool``, but what fails is raised as a ToolError."""
    deadline = asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000)
    try:
        async with deadline, aclosing(request.tool.invoke_stream(request.params, request.context)) as parts:
            async for part in parts:
                yield part
    except GeneratorExit:
        raise
    except BaseException as error:
        problem = _tool_error(error, deadline, timeout_ms)
        if problem is None or problem is error:
            raise
        raise problem from error


def failed_result(tool_id: str, error: ToolError, cause: BaseException | None) -> ToolExecutionResult:
    if cause is not None and cause is not error:
        error.__cause__ = cause
    return ToolExecutionResult(tool_id=tool_id, success=False, error=error.message, exception=error)


def _tool_error(error: BaseException, deadline: asyncio.Timeout, timeout_ms: int | None) -> ToolError | None:
    """What a tool's exception is to its caller; None for one that passes as it is."""
    match error:
        case asyncio.CancelledError():
            return None if _cancelled_from_outside() else ToolCancelledError("the tool was cancelled from within")
        case TimeoutError() if deadline.expired():
            return ToolTimeoutError(f"the tool took longer than {timeout_ms} ms")
        case TimeoutError():
            return ToolTimeoutError(str(error) or "the tool timed out")
        case LeaseLost():
            return None
        case ToolError():
            return error
        case Exception():
            ours = as_ours(error)
            # The text of a KeyError is the key alone, which tells a model nothing.
            said = in_words(error) if isinstance(error, KeyError) else str(error)
            return ours if isinstance(ours, ToolError) else ToolError(said or type(error).__name__)
        case _:
            return None


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
