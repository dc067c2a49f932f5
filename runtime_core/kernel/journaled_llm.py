"""A model client whose answers are kept in the run's journal, and come from there when the run resumes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, cast

from runtime_core.kernel.journal import Journal
from runtime_core.kernel.steps import Note
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, LLMToolCall, LLMUsage, TextDelta
from runtime_core.llm.wrapped import WrappedClient


class JournaledClient(WrappedClient):
    """Outermost of a run's clients: what it is asked again costs nothing, and is neither retried nor traced."""

    def __init__(self, client: LLMClient, journal: Journal) -> None:
        super().__init__(client)
        self._journal = journal

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        key = self._journal.key("llm")
        if (note := await self._journal.recall(key)) is not None:
            yield _response(note.value)
            return
        started = time.monotonic()
        async with aclosing(cast("Any", self._client.stream(request))) as parts:
            async for part in parts:
                if isinstance(part, LLMResponse):
                    latency_ms = (time.monotonic() - started) * 1000
                    self._journal.note(Note(key=key, value=asdict(part), latency_ms=latency_ms))
                yield part


def _response(value: dict[str, Any]) -> LLMResponse:
    fields = dict(value)
    fields["tool_calls"] = [LLMToolCall(**call) for call in value["tool_calls"]]
    fields["usage"] = LLMUsage(**value["usage"])
    return LLMResponse(**fields)
