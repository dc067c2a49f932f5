"""The parts that all requests of a gateway share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from producer.client import AsyncClient
from producer.fleet import Fleet
from producer.gateway.access import Access
from producer.gateway.tokens import TokenTable
from runtime_core.config.settings import Settings
from runtime_core.errors import AgentNotFoundError, TooManyStreams

#: Seconds for which what the workers said of their agents is good: a storm of requests asks them once.
AGENTS_GOOD_S = 2.0


class Gateway:
    """Use it from one event loop; close it."""

    def __init__(self, settings: Settings, tokens: TokenTable) -> None:
        self.settings = settings
        self.access = Access(tokens, tenant=settings.tenant)
        self.client = AsyncClient(
            settings.redis_url,
            tenant=settings.tenant,
            partitions=settings.partitions,
            session_limit=settings.session_queue_limit,
            partition_limit=settings.partition_queue_limit,
        )
        self.fleet = Fleet(settings.redis_url)
        self.agents = AgentDirectory(self.fleet)
        self.streams = StreamSlots(settings.gateway_streams, settings.gateway_tenant_streams)
        #: Set when the process is to end: open streams end, and their clients find another gateway.
        self.closing = asyncio.Event()

    async def aclose(self) -> None:
        self.closing.set()
        await self.fleet.aclose()
        await self.client.aclose()


class StreamSlots:
    """Bounds the streams that are open at once."""

    def __init__(self, limit: int, tenant_limit: int) -> None:
        self._limit = limit
        self._tenant_limit = tenant_limit
        self._open: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """Raises TooManyStreams. Who takes one gives it back."""
        if self._open.total() >= self._limit or self._open[tenant] >= self._tenant_limit:
            raise TooManyStreams(
                f"{self._open.total()} streams are open, {self._open[tenant]} of them of this tenant",
                hint="close one, try again later, or raise RUNLANE_GATEWAY_STREAMS or RUNLANE_GATEWAY_TENANT_STREAMS",
                retry_after_ms=1_000,
            )
        self._open[tenant] += 1

    def give_back(self, tenant: str) -> None:
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


class AgentDirectory:
    """What the workers say of their agents, asked once for all who want to know at about the same time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[str, tuple[float, Any]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def list(self) -> list[dict[str, str]]:
        """[{id, name}]. Raises FleetUnavailable."""
        async with self._turn("") as known:
            if known is None:
                known = self._keep("", await self._fleet.list_agents())
            return known

    async def get(self, agent_id: str) -> Mapping[str, Any]:
        """Raises AgentNotFoundError, FleetUnavailable."""
        agents = await self.list()
        if all(agent["id"] != agent_id for agent in agents):
            raise AgentNotFoundError(
                f"there is no agent {agent_id!r}",
                hint=f"agents: {', '.join(agent['id'] for agent in agents) or '(none)'}",
                agent_id=agent_id,
            )
        async with self._turn(agent_id) as known:
            if known is None:
                known = self._keep(agent_id, await self._fleet.get_agent_info(agent_id))
            return known

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncGenerator[Any]:
        async with self._asking.setdefault(key, asyncio.Lock()):
            at, value = self._known.get(key, (0.0, None))
            yield value if time.monotonic() - at < AGENTS_GOOD_S else None

    def _keep(self, key: str, value: Any) -> Any:
        self._known[key] = time.monotonic(), value
        return value
