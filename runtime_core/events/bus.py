"""The local event bus, and the per-run facade through which every event of a run passes."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from runtime_core.clock import now_ms
from runtime_core.config.problems import describe_problems
from runtime_core.contracts.context import RunScope
from runtime_core.contracts.frame import RunIds
from runtime_core.errors import PluginConfigError
from runtime_core.events.taxonomy import missing_keys

logger = logging.getLogger(__name__)

#: Subscribing to this name subscribes to every event.
WILDCARD = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeEvent:
    """Something that happened. ``ids`` is None for an event without a run; ``attempt`` is 0 then."""

    name: str
    payload: dict[str, Any] = field(default_factory=dict)
    ids: RunIds | None = None
    attempt: int = 0
    config_version: int | None = None
    #: Milliseconds since the epoch.
    timestamp_ms: int = field(default_factory=now_ms)

    @property
    def stamped_payload(self) -> dict[str, Any]:
        """The payload and, under their own names, what the event is stamped with."""
        if self.ids is None:
            return self.payload
        stamps = {**self.ids.as_dict(), "attempt": self.attempt, "config_version": self.config_version}
        return stamps | self.payload

    @property
    def timestamp(self) -> str:
        """``timestamp_ms`` in ISO 8601, as handlers written for the openagents SDK read it."""
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC).isoformat()


EventHandler: TypeAlias = Callable[[RuntimeEvent], Awaitable[None] | None]


class StampedBus(ABC):
    """A bus that takes events as they are, with the ids of their run. The buses of other SDKs know only ``emit``."""

    @abstractmethod
    async def publish(self, event: RuntimeEvent) -> None:
        """Deliver ``event`` to its subscribers and remember it."""

    async def emit(self, event_name: str, /, **payload: Any) -> RuntimeEvent:
        """Emit an event that belongs to no run. Events of a run go through ``RunEvents``."""
        event = RuntimeEvent(name=event_name, payload=payload)
        await self.publish(event)
        return event


async def deliver(bus: Any, event: RuntimeEvent) -> None:
    """Hand ``event`` to a bus of either kind; one that knows only ``emit`` gets the stamps among the payload."""
    if isinstance(bus, StampedBus):
        await bus.publish(event)
        return
    try:
        await bus.emit(event.name, **event.stamped_payload)
    except Exception:
        logger.exception("the event bus failed at %s", event.name)


class EventBus(StampedBus):
    """An in-process bus with a bounded history.

    1. Handlers, sync or async, run inline: ``emit`` returns when all of them have.
    2. Handlers of a name run before those of ``*``, each group in the order of subscription.
    3. An exception of a handler is logged and swallowed.
    """

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")

        #: Events kept for ``get_history``.
        max_history: PositiveInt = 1000

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}
        try:
            self.cfg = self.Config.model_validate(self.config)
        except ValidationError as error:
            raise PluginConfigError(
                f"EventBus: {describe_problems(error, self.Config, root='config')}",
                hint=f"config fields of EventBus: {', '.join(self.Config.model_fields)}",
            ) from error
        self._handlers: dict[str, list[EventHandler]] = {}
        self._history: deque[RuntimeEvent] = deque(maxlen=self.cfg.max_history)

    def subscribe(self, event_name: str, handler: EventHandler) -> None:
        """Call ``handler`` for each event of that name; ``*`` is every event."""
        self._handlers.setdefault(event_name, []).append(handler)

    def unsubscribe(self, event_name: str, handler: EventHandler) -> None:
        """Undo one ``subscribe``; a handler that is not subscribed is ignored."""
        handlers = self._handlers.get(event_name, [])
        if handler in handlers:
            handlers.remove(handler)
        if not handlers:
            self._handlers.pop(event_name, None)

    async def publish(self, event: RuntimeEvent) -> None:
        if missing := missing_keys(event.name, event.payload):
            logger.warning("event %s lacks the payload keys %s", event.name, ", ".join(missing))
        self._history.append(event)
        for handler in (*self._handlers.get(event.name, ()), *self._handlers.get(WILDCARD, ())):
            try:
                outcome = handler(event)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                logger.exception("a handler of event %s failed", event.name)

    @property
    def history(self) -> list[RuntimeEvent]:
        """All that ``get_history`` would return."""
        return list(self._history)

    async def get_history(self, event_name: str | None = None, limit: int | None = None) -> list[RuntimeEvent]:
        """The newest ``limit`` events, oldest first, of that name or of all."""
        events = [event for event in self._history if event_name in (None, event.name)]
        return events if limit is None else events[max(0, len(events) - limit) :]

    async def clear_history(self) -> None:
        self._history.clear()

    async def close(self) -> None:
        """Forget subscribers and history."""
        self._handlers.clear()
        self._history.clear()


class EventFollower(Protocol):
    """Who is told of a run's events, one by one, before anything comes after them."""

    def silences(self, event_name: str) -> bool:
        """Whether the event is passed over: nobody else gets it."""
        ...

    async def passed(self, event_name: str) -> None: ...


class RunEvents:
    """The event bus as one run sees it: what is emitted here carries the ids of the run and reaches its sink.

    Handlers of the bus find the ids in the payload too, where those written for the openagents SDK look for them.

    Plugins may repeat the run's ids among the payload, as plugins of the openagents SDK do; repeated ones are dropped.
    After ``close`` events of code that outlives its run still reach the local bus but no longer the sink. Keys of the
    payload that begin with ``_`` are for this process; ``watch`` sees each event first.
    """

    def __init__(
        self, bus: Any, ids: RunIds, scope: RunScope, *, watch: Callable[[RuntimeEvent], None] | None = None
    ) -> None:
        self.ids = ids
        self._bus = bus
        self._watch = watch
        self._scope = scope
        self._stamped = ids.as_dict()
        self._stamps = {**self._stamped, "attempt": scope.attempt, "config_version": scope.config_version}
        self._open = True
        self._follower: EventFollower | None = None

    async def emit(self, event_name: str, /, **payload: Any) -> RuntimeEvent:
        """Emit an event of this run: local handlers first, then the sink. The sink may wait or raise LeaseLost."""
        own = {key: value for key, value in payload.items() if not self._repeats_id(key, value)}
        event = self._event(event_name, own, now_ms())
        if self._follower is None or not self._follower.silences(event_name):
            if self._watch is not None:
                self._watch(event)
            await deliver(self._bus, self._event(event_name, self._stamps | event.payload, event.timestamp_ms))
            if self._open and self._scope.sink is not None:
                await self._scope.sink(_public(event))
        if self._follower is not None:
            await self._follower.passed(event_name)
        return event

    def _event(self, name: str, payload: dict[str, Any], timestamp_ms: int) -> RuntimeEvent:
        return RuntimeEvent(
            name=name,
            payload=payload,
            ids=self.ids,
            attempt=self._scope.attempt,
            config_version=self._scope.config_version,
            timestamp_ms=timestamp_ms,
        )

    def follow(self, follower: EventFollower) -> None:
        """Tell ``follower`` of every event from now on."""
        self._follower = follower

    def close(self) -> None:
        self._open = False
        self._follower = None

    def subscribe(self, event_name: str, handler: EventHandler) -> None:
        self._bus.subscribe(event_name, handler)

    def unsubscribe(self, event_name: str, handler: EventHandler) -> None:
        self._bus.unsubscribe(event_name, handler)

    async def get_history(self, event_name: str | None = None, limit: int | None = None) -> list[RuntimeEvent]:
        return cast("list[RuntimeEvent]", await self._bus.get_history(event_name, limit))

    async def clear_history(self) -> None:
        await self._bus.clear_history()

    def _repeats_id(self, key: str, value: Any) -> bool:
        return key in self._stamped and (value is None or value == "" or value == self._stamped[key])


def _public(event: RuntimeEvent) -> RuntimeEvent:
    if not any(key.startswith("_") for key in event.payload):
        return event
    return replace(event, payload={key: value for key, value in event.payload.items() if not key.startswith("_")})
