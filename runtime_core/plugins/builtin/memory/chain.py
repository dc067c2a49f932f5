"""Memory ``chain``: several memories as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from runtime_core.config.schema import MemoryRef
from runtime_core.contracts.context import RunContext
from runtime_core.errors import LeaseLost
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.typed_config import TypedConfig

logger = logging.getLogger(__name__)


class ChainMemory(TypedConfig):
    """1. Each is given the run in the order of the list, and is asked to write, compact and close in the reverse one.

    2. One that fails does not keep the others from their turn. Then the chain fails, if that one's ``on_error`` is
       ``fail``; what becomes of the run is up to the chain's own ``on_error``.
    """

    class Config(BaseModel):
        memories: Annotated[list[MemoryRef], Field(min_length=1)]

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self._memories: list[tuple[Any, MemoryRef]] = [
            (load_plugin(Seam.MEMORY, ref, where=f"chain.memories[{number}]"), ref)
            for number, ref in enumerate(self.cfg.memories)
        ]

    async def inject(self, context: RunContext[Any]) -> None:
        await self._each("inject", self._memories, context)

    async def writeback(self, context: RunContext[Any]) -> None:
        await self._each("writeback", self._memories[::-1], context)

    async def compact(self, context: RunContext[Any]) -> None:
        await self._each("compact", self._memories[::-1], context)

    async def retrieve(self, query: str, context: RunContext[Any]) -> list[dict[str, Any]]:
        """What each finds, in the order of the list."""
        found = await self._each("retrieve", self._memories, query, context)
        return [item for items in found for item in items or []]

    async def close(self) -> None:
        await self._each("close", self._memories[::-1])

    async def _each(self, step: str, memories: Sequence[tuple[Any, MemoryRef]], *arguments: Any) -> list[Any]:
        outcomes: list[Any] = []
        failure: Exception | None = None
        for memory, ref in memories:
            method: Any = getattr(memory, step, None)
            if method is None:
                continue
            try:
                outcomes.append(await method(*arguments))
            except LeaseLost:
                raise
            except Exception as error:
                logger.warning("memory %s of a chain failed during %s: %s", type(memory).__name__, step, error)
                if ref.on_error == "fail":
                    failure = failure or error
        if failure is not None:
            raise failure
        return outcomes
