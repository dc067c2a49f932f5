"""Tools and patterns for the tests of tool executors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, ClassVar

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest, ToolExecutionSpec
from runtime_core.errors import ModelRetryError, PermanentToolError, ToolRateLimitError
from runtime_core.plugins.builtin.executor.calling import DirectToolExecutor
from runtime_core.plugins.builtin.pattern.base import Pattern


class Batch(Pattern):
    """Calls the tools of its input, ``<tool>:<query>`` each, in one batch."""

    async def execute(self) -> list[str]:
        calls = [part.partition(":") for part in self.context.input_text.split()]
        outcomes = await self.call_tool_batch([(tool, {"query": query}) for tool, _, query in calls])
        return [str(outcome) for outcome in outcomes]


class Meeting:
    """Tools that return only when ``expected`` of them execute at the same time."""

    expected: ClassVar[int] = 2
    here: ClassVar[int] = 0
    most: ClassVar[int] = 0
    met: ClassVar[asyncio.Event] = asyncio.Event()

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        cls = type(self)
        cls.here += 1
        cls.most = max(cls.most, cls.here)
        if cls.here >= cls.expected:
            cls.met.set()
        await cls.met.wait()
        cls.here -= 1
        return f"met {params['query']}"

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True)


class Quitting:
    """Cancels itself."""

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        raise asyncio.CancelledError


class Ordered:
    """Writes down when it begins and ends; may not go beside others."""

    log: ClassVar[list[str]] = []

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        self.log.append(f"begins {params['query']}")
        await asyncio.sleep(0)
        self.log.append(f"ends {params['query']}")
        return params["query"]


class Beside(Ordered):
    """The same, and may go beside others."""

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True)


class Flaky:
    """Fails as often as its query says, for a passing reason."""

    left: ClassVar[int | None] = None

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        cls = type(self)
        cls.left = int(params["query"]) if cls.left is None else cls.left
        if cls.left:
            cls.left -= 1
            raise ToolRateLimitError("too often", retry_after_ms=1)
        return "at last"


class Careless:
    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        return params["city"]


class Busy:
    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        raise ToolRateLimitError("come back in a minute", retry_after_ms=60_000)


class Endless:
    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        await asyncio.Event().wait()
        return "never"


class Streaming:
    """Says its query word by word."""

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        return "whole"

    async def invoke_stream(self, params: dict[str, Any], context: RunContext[Any]) -> AsyncGenerator[dict[str, Any]]:
        for word in params["query"].split("_"):
            if word == "bad":
                raise PermanentToolError("a bad word")
            yield {"type": "part", "text": word}
        yield {"type": "result", "data": "said"}

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(supports_streaming=True)


class Retrying:
    """Wants other arguments."""

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        raise ModelRetryError("say it in Latin")


class Worker:
    """Does its work in the background: done when it is asked for the second time."""

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        return "at once"

    async def invoke_background(self, params: dict[str, Any], context: RunContext[Any]) -> Any:
        return SimpleNamespace(job_id="j1", polls=0)

    async def poll_job(self, handle: Any, context: RunContext[Any]) -> Any:
        handle.polls += 1
        return SimpleNamespace(job_id="j1", status="succeeded" if handle.polls > 1 else "running", result="done")

    async def cancel_job(self, handle: Any, context: RunContext[Any]) -> bool:
        return True


class Background(Pattern):
    """Has the tool ``work`` do a job, and waits for it."""

    async def execute(self) -> Any:
        tool = self.context.tools["work"]
        handle = await tool.invoke_background({}, self.context)
        while (status := await tool.poll_job(handle, self.context)).status == "running":
            await asyncio.sleep(0)
        return [status.result, await tool.cancel_job(handle, self.context)]


class Strict(DirectToolExecutor):
    """An executor of somebody else's: it has a policy, and calls the tool without asking it."""

    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision:
        return PolicyDecision(allowed=False, reason="nothing is")

    async def _check_policy(self, request: ToolExecutionRequest) -> None:
        return
