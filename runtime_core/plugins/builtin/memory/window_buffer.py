"""Memory ``window_buffer``: the newest exchanges of the session with this agent."""

from __future__ import annotations

from pydantic import BaseModel, PositiveInt

from runtime_core.plugins.builtin.memory.buffer import BufferMemory


class WindowBufferMemory(BufferMemory):
    """A ``buffer`` that keeps the newest ``window_size`` exchanges."""

    class Config(BaseModel):  # pyright: ignore[reportIncompatibleVariableOverride]  # a window has no max_items
        view_key: str = "history"
        state_key: str = "memory_buffer"
        window_size: PositiveInt = 20

    def _limit(self) -> int | None:
        return self.cfg.window_size
