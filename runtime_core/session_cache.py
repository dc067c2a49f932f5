"""The session plugin cache: what makes it worth sending a session's runs to the same process.

Plugins of one (session, agent) are built once and kept warm, bounded in number and idle time. Memory plugins may hold
connections, so an entry is closed when it leaves. An entry in use never leaves under its run: it is closed when the
last run that uses it has ended, and a run that comes meanwhile gets fresh plugins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

from runtime_core.ids import SessionKey

logger = logging.getLogger(__name__)

PluginsT = TypeVar("PluginsT")
CacheKey: TypeAlias = tuple[SessionKey, str]

#: Entries. A session with a window memory takes some ten kilobytes.
DEFAULT_BOUND = 1000
DEFAULT_IDLE_SECONDS = 1800.0
#: Seconds that one plugin bundle may take to close before it is abandoned; it must not hold up a run or a handover.
CLOSE_TIMEOUT_SECONDS = 10.0


@dataclass(kw_only=True)
class _Entry(Generic[PluginsT]):
    plugins: PluginsT
    last_used: float
    users: int = 0
    evicted: bool = False


@dataclass(kw_only=True)
class CacheCounters:
    hits: int = 0
    misses: int = 0
    evictions: int = 0


class SessionPluginCache(Generic[PluginsT]):
    """Keyed by (session key, agent id), least recently used out first.

    ``close`` is awaited for each entry that leaves; what it raises is logged. ``clock`` returns seconds.
    """

    def __init__(
        self,
        *,
        close: Callable[[PluginsT], Awaitable[None]],
        bound: int = DEFAULT_BOUND,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = CacheCounters()
        self._close = close
        self._bound = bound
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._entries: dict[CacheKey, _Entry[PluginsT]] = {}
        #: Of those entries the ones that nobody uses, least recently used first.
        self._unused: OrderedDict[CacheKey, _Entry[PluginsT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<SessionPluginCache {len(self)}/{self._bound} {self.counters}>"

    @asynccontextmanager
    async def use(
        self,
        session: SessionKey,
        agent_id: str,
        build: Callable[[], PluginsT],
        fits: Callable[[PluginsT], bool] = lambda _: True,
    ) -> AsyncGenerator[tuple[PluginsT, bool], None]:
        """(plugins, hit), held for the length of the context; cached ones that do not fit are built anew.

        What ``build`` raises leaves the cache without an entry for the key.
        """
        await self.evict_idle()
        key = (session, agent_id)
        entry = self._entries.get(key)
        if entry is not None and not fits(entry.plugins):
            await self._evict([key])
            entry = None
        hit = entry is not None
        if entry is None:
            entry = _Entry(plugins=build(), last_used=self._clock())
            self._entries[key] = entry
        if hit:
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        entry.users += 1
        self._unused.pop(key, None)
        try:
            if not hit:
                await self._shrink()
            yield entry.plugins, hit
        finally:
            entry.users -= 1
            entry.last_used = self._clock()
            if entry.users == 0 and entry.evicted:
                await self._close_entry(key, entry)
            elif entry.users == 0:
                self._unused[key] = entry

    def peek(self, session: SessionKey, agent_id: str) -> PluginsT | None:
        """The cached plugins, without counting as a use."""
        entry = self._entries.get((session, agent_id))
        return None if entry is None else entry.plugins

    def cached(self) -> list[CacheKey]:
        """Least recently used first, those in use last."""
        return [*self._unused, *(key for key, entry in self._entries.items() if entry.users)]

    def session_count(self) -> int:
        return len({session for session, _ in self._entries})

    async def evict(self, session: SessionKey) -> int:
        """Drop a session's plugins; returns how many bundles. Those in use are closed after their run."""
        return await self.evict_where(lambda key: key[0] == session)

    async def evict_agent(self, agent_id: str) -> int:
        """Drop an agent's plugins in every session."""
        return await self.evict_where(lambda key: key[1] == agent_id)

    async def evict_where(self, predicate: Callable[[CacheKey], bool]) -> int:
        """Drop what ``predicate`` names, for example the sessions of a partition that leaves."""
        keys = [key for key in self._entries if predicate(key)]
        await self._evict(keys)
        return len(keys)

    async def evict_idle(self) -> int:
        """Drop what nobody used for the idle time."""
        deadline = self._clock() - self._idle_seconds
        keys: list[CacheKey] = []
        for key, entry in self._unused.items():
            if entry.last_used > deadline:
                break
            keys.append(key)
        await self._evict(keys)
        return len(keys)

    async def close(self) -> None:
        """Drop everything."""
        await self.evict_where(lambda _: True)

    async def _shrink(self) -> None:
        await self._evict([*islice(self._unused, max(0, len(self._entries) - self._bound))])

    async def _evict(self, keys: list[CacheKey]) -> None:
        """Remove all of them before the first await, so that no run can take up an entry that is being closed."""
        leaving = [(key, self._entries.pop(key)) for key in keys]
        for key, entry in leaving:
            self._unused.pop(key, None)
            entry.evicted = True
        self.counters.evictions += len(leaving)
        for key, entry in leaving:
            if entry.users == 0:
                await self._close_entry(key, entry)

    async def _close_entry(self, key: CacheKey, entry: _Entry[PluginsT]) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._close(entry.plugins)
        except Exception:
            logger.exception("closing the plugins of session %s, agent %s failed", *key)
