"""Memory ``buffer``: every exchange of the session with this agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import BaseModel, PositiveInt

from runtime_core.contracts.context import LAST_OUTPUT_KEY, RunContext
from runtime_core.plugins.typed_config import TypedConfig


class Exchange(TypedDict):
    """One completed run as memory keeps it."""

    run_id: str
    input: str
    output: Any
    tool_results: list[dict[str, Any]]


class BufferMemory(TypedConfig):
    """Keeps exchanges in the process and shows them to the pattern as ``memory_view[view_key]``.

    The session's transcript is the truth: a buffer that is new in its process starts from it, so that a session may
    move to another worker without losing its memory. (Results of tools are not in the transcript and do not move.)
    """

    class Config(BaseModel):
        #: Key of the exchanges in ``context.memory_view``.
        view_key: str = "history"
        #: Accepted for configs of the openagents SDK, whose buffer lives in the session state; unused.
        state_key: str = "memory_buffer"
        #: Exchanges kept; None keeps all.
        max_items: PositiveInt | None = None

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self._exchanges: list[Exchange] | None = None

    async def inject(self, context: RunContext[Any]) -> None:
        if self._exchanges is None:
            self._exchanges = _from_transcript(context)
        # An attempt that lost its worker after its writeback is repeated here: it must not remember itself.
        self._keep([exchange for exchange in self._exchanges if exchange["run_id"] != context.run_id])
        self._show(context)

    async def writeback(self, context: RunContext[Any]) -> None:
        exchange = Exchange(
            run_id=context.run_id,
            input=context.input_text,
            output=context.state.get(LAST_OUTPUT_KEY),
            tool_results=list(context.tool_results),
        )
        self._keep([*(self._exchanges or []), exchange])
        self._show(context)

    async def retrieve(self, query: str, context: RunContext[Any]) -> list[dict[str, Any]]:
        """The exchanges that contain every word of ``query``, oldest first."""
        words = query.lower().split()
        found: list[dict[str, Any]] = []
        for exchange in self._exchanges or []:
            text = f"{exchange['input']} {exchange['output']}".lower()
            if all(word in text for word in words):
                found.append(dict(exchange))
        return found

    def _limit(self) -> int | None:
        return self.cfg.max_items

    def _keep(self, exchanges: list[Exchange]) -> None:
        limit = self._limit()
        self._exchanges = exchanges if limit is None else exchanges[-limit:]

    def _show(self, context: RunContext[Any]) -> None:
        context.memory_view[self.cfg.view_key] = list(self._exchanges or [])


def _from_transcript(context: RunContext[Any]) -> list[Exchange]:
    """The completed exchanges with this agent; failed ones are marked in the transcript and were never remembered."""
    inputs: dict[str, str] = {}
    exchanges: list[Exchange] = []
    for message in context.transcript:
        run_id = str(message.get("run_id", ""))
        if message.get("agent_id") != context.agent_id:
            continue
        if message.get("role") == "user":
            inputs[run_id] = str(message.get("content", ""))
        elif message.get("role") == "assistant" and run_id in inputs and not message.get("is_error"):
            exchanges.append(
                Exchange(run_id=run_id, input=inputs.pop(run_id), output=message.get("content"), tool_results=[])
            )
    return exchanges
