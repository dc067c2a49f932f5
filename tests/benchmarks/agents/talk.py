"""What is said: text at a steady pace, each piece with the time at which it was said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from runtime_core.contracts.context import RunContext

#: As long as a model's pieces of text are.
_WORDS = "lorem ipsum "


async def pieces(count: int, rate: float) -> AsyncGenerator[str, None]:
    """``count`` pieces, ``rate`` per second, on a schedule: a piece that is late makes no later one late."""
    began = time.monotonic()
    for number in range(count):
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        yield f"{time.time_ns()} {_WORDS}"


def latencies_ms(text: str) -> Iterator[float]:
    """Age of every piece in ``text``: a chunk may hold several."""
    now = time.time_ns()
    for word in text.split():
        if word.isdigit():
            yield (now - int(word)) / 1e6


class Talker:
    """A pattern; its input says how much, how fast: ``{"count": …, "rate": …}``."""

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def execute(self) -> str:
        async for piece in pieces(**json.loads(self.context.input_text)):
            await self.context.event_bus.emit("llm.delta", text=piece)
        return "said"
