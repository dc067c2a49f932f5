"""What executors around another one have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.typed_config import TypedConfig


class WrappingExecutor(TypedConfig):
    """Base of executors with an ``inner`` one, named in the config as plugins are; its policy is theirs."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self.inner: Any = load_plugin(Seam.TOOL_EXECUTOR, self.cfg.inner, where=f"{type(self).__name__}.inner")

    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision:
        evaluate = getattr(self.inner, "evaluate_policy", None)
        return PolicyDecision(allowed=True) if evaluate is None else await evaluate(request)

    async def execute_stream(self, request: ToolExecutionRequest) -> AsyncGenerator[Any]:
        async for part in self.inner.execute_stream(request):
            yield part


def safe() -> PluginRef:
    """The inner executor of a config that names none."""
    return PluginRef(type="safe")
