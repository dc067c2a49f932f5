"""The base of buses that wrap another one and do something more with each event."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from runtime_core.config.schema import EventBusRef
from runtime_core.events.bus import EventHandler, RuntimeEvent, StampedBus, deliver
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.typed_config import TypedConfig

logger = logging.getLogger(__name__)


class ObservingConfig(BaseModel):
    """``include_events`` and ``exclude_events`` are patterns such as ``tool.*``; excluding wins."""

    model_config = ConfigDict(extra="forbid")

    #: The bus that delivers the events and keeps their history.
    inner: EventBusRef = Field(default_factory=lambda: EventBusRef(type="async"))
    include_events: list[str] | None = None
    exclude_events: list[str] = Field(default_factory=list[str])
    #: Events that the inner bus keeps, unless its own config says so.
    max_history: PositiveInt = 10_000


class ObservingBus(TypedConfig, StampedBus):
    """Delivers through the inner bus first, then observes. An observation that fails is logged; no run fails of it.

    The ``Config`` of a subclass is an ObservingConfig.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        TypedConfig.__init__(self, config)
        options: ObservingConfig = self.cfg
        inner = options.inner
        if inner.type:  # one of somebody's own may not know the field
            inner = inner.model_copy(update={"config": {"max_history": options.max_history, **inner.config}})
        self._inner: Any = load_plugin(Seam.EVENTS, inner, where="events.config.inner")

    @abstractmethod
    async def observe(self, event: RuntimeEvent) -> None:
        """Do what this bus is for."""

    async def publish(self, event: RuntimeEvent) -> None:
        await deliver(self._inner, event)
        if not self._observes(event.name):
            return
        try:
            await self.observe(event)
        except Exception:
            logger.exception("%s failed at event %s", type(self).__name__, event.name)

    def _observes(self, name: str) -> bool:
        options: ObservingConfig = self.cfg
        if _matches(name, options.exclude_events):
            return False
        return options.include_events is None or _matches(name, options.include_events)

    def subscribe(self, event_name: str, handler: EventHandler) -> None:
        self._inner.subscribe(event_name, handler)

    def unsubscribe(self, event_name: str, handler: EventHandler) -> None:
        self._inner.unsubscribe(event_name, handler)

    async def get_history(self, event_name: str | None = None, limit: int | None = None) -> list[RuntimeEvent]:
        return cast("list[RuntimeEvent]", await self._inner.get_history(event_name, limit))

    async def clear_history(self) -> None:
        await self._inner.clear_history()

    async def close(self) -> None:
        if (close := getattr(self._inner, "close", None)) is not None:
            await close()


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
