"""What the plugins of one session share in this process, such as connections to servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar, cast

logger = logging.getLogger(__name__)


class Resource(Protocol):
    """May be used again after ``close``: a run may be executing while the session's resources are released."""

    async def close(self) -> None: ...


ResourceT = TypeVar("ResourceT", bound=Resource)


class SessionResources:
    """Made when first asked for, kept from run to run, closed with the session's last plugins or when it is released.

    A holder (the plugins of one agent) joins when it is made and leaves when it is closed.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._holders = 0

    def get(self, key: Hashable, make: Callable[[], ResourceT]) -> ResourceT:
        """The resource of that key; the same one for whoever asks, until it is closed."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("ResourceT", self._kept[key])

    def join(self) -> SessionResources:
        self._holders += 1
        return self

    async def leave(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            await self.close()

    async def close(self) -> None:
        """Close everything; what is asked for afterwards is made anew. What fails is logged."""
        closing, self._kept = list(self._kept.values()), {}
        outcomes = await asyncio.gather(*(one.close() for one in closing), return_exceptions=True)
        for resource, outcome in zip(closing, outcomes, strict=True):
            if isinstance(outcome, Exception):
                logger.error("closing %r failed", resource, exc_info=outcome)
