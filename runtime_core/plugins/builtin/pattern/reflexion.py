"""Pattern ``reflexion``: the model looks back at each result before it goes on."""

from __future__ import annotations

from runtime_core.plugins.builtin.pattern.tool_loop import ToolLoop, ToolLoopConfig

_SYSTEM_PROMPT = (
    "You are a helpful assistant with tools. After each result, reflect: is the task done? If it is, answer the user."
    " If not, say what was missing or went wrong, and go on in a better way; do not repeat what has failed."
)
_AFTER_FAILURE = "Reflect before you go on: why did this fail, and what will you do differently?"


class ReflexionPattern(ToolLoop):
    """The loop, with a question behind each failed call. Phases: ``acting``, then ``reflecting`` on each result."""

    class Config(ToolLoopConfig):
        system_prompt: str = _SYSTEM_PROMPT

    async def prepare(self) -> str:
        return self.cfg.system_prompt

    async def react(self) -> dict[str, object]:
        reflecting = bool(self._messages) and self._messages[-1].get("role") == "tool"
        await self.emit("pattern.phase", phase="reflecting" if reflecting else "acting")
        return await super().react()

    def after_tool(self, content: str, *, failed: bool) -> str:
        return f"{content}\n\n{_AFTER_FAILURE}" if failed else content
