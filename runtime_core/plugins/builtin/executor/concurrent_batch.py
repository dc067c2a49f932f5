"""Tool executor ``concurrent_batch``: what a model asks for at once is done at once, where the tools allow it."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, Field, PositiveInt

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.tool import ToolExecutionRequest, ToolExecutionResult
from runtime_core.plugins.builtin.executor.side_by_side import side_by_side
from runtime_core.plugins.builtin.executor.wrapping import WrappingExecutor, safe


class ConcurrentBatchExecutor(WrappingExecutor):
    """Calls of tools that are ``concurrency_safe`` go side by side, at most ``max_concurrency`` of them; see
    ``side_by_side``. The builtin patterns make the calls of one answer of the model so.
    """

    class Config(BaseModel):
        inner: PluginRef = Field(default_factory=safe)
        max_concurrency: PositiveInt = 10

    @property
    def max_concurrency(self) -> int:
        """Patterns look for it: how many calls of a batch may be under way."""
        return self.cfg.max_concurrency

    async def execute(self, request: ToolExecutionRequest) -> ToolExecutionResult:
        return await self.inner.execute(request)

    async def execute_batch(self, requests: list[ToolExecutionRequest]) -> list[ToolExecutionResult]:
        """One result per request, in their order."""
        calls = [(request.execution_spec.concurrency_safe, partial(self.execute, request)) for request in requests]
        return await side_by_side(calls, limit=self.max_concurrency)
