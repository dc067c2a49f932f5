"""An agent that speaks: at a steady pace or as fast as it can, each piece with the time at which it was said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from runtime_core.contracts.context import RunContext

#: As long as a model's pieces of text are.
_WORDS = "lorem ipsum "


async def pieces(count: int, rate: float, at: float) -> AsyncGenerator[str, None]:
    """``count`` pieces from the time ``at`` on, ``rate`` per second (0: at once), on a schedule: a piece that is late
    makes no later one late.
    """
    for number in range(count):
        pause = at + (number / rate if rate else 0) - time.time()
        if pause > 0:
            await asyncio.sleep(pause)
        yield f"{time.time_ns()} {_WORDS}"


class Talker:
    """A pattern; its input says what: ``{"event": …, "count": …, "rate": …, "at": …}``.

    Neighbouring ``llm.delta`` events may reach a reader as one chunk; ``tool.delta`` events are never joined, so their
    number is that of the chunks.
    """

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def execute(self) -> str:
        asked = json.loads(self.context.input_text)
        event = asked.pop("event")
        names = {} if event == "llm.delta" else {"tool_id": "bench", "call_id": "1"}
        async for piece in pieces(**asked):
            await self.context.event_bus.emit(event, **names, text=piece)
        return "said"
