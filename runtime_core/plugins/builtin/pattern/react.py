"""Pattern ``react``: the model reasons, calls tools, sees their results, and goes on until it answers."""

from __future__ import annotations

from runtime_core.plugins.builtin.pattern.tool_loop import ToolLoop, ToolLoopConfig

_SYSTEM_PROMPT = (
    "You are a helpful assistant. Use the tools you are given when they help; when you know enough, answer the user."
)


class ReactPattern(ToolLoop):
    """The loop as it is."""

    class Config(ToolLoopConfig):
        system_prompt: str = _SYSTEM_PROMPT

    async def prepare(self) -> str:
        return self.cfg.system_prompt
