"""Monitor: what the fleet does and whether it is well, as Redis alone shows it. No worker is asked or waited for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from producer.connection import StoreConnection
from producer.diagnosis.diagnose import diagnose
from producer.diagnosis.finding import Finding, error
from producer.diagnosis.reading import Reading
from runtime_core.clock import now_ms
from runtime_core.contracts.fleet import FleetStatus
from runtime_core.errors import RunlaneError
from runtime_core.store.checkup import read_server, read_troubles
from runtime_core.store.overview import read_status
from runtime_core.store.runs import DEFAULT_SESSION_LIMIT

#: Seconds between the two looks at what may be growing.
_LOOK_AGAIN_S = 1.0


class Monitor:
    """Use it from one event loop; close it, or use it as a context manager. It writes nothing.

    ``session_limit``: unfinished runs that a session may have, as the clients of this fleet have it.
    """

    def __init__(self, url: str, *, session_limit: int = DEFAULT_SESSION_LIMIT) -> None:
        self._store = StoreConnection(url)
        self._session_limit = session_limit

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._store.aclose()

    async def status(self) -> FleetStatus:
        """Workers, partitions, queues and who waits. Raises RunlaneError if Redis cannot be reached."""
        return await self._store.read(read_status)

    async def examine(self, variables: Iterable[str] | None = None) -> Sequence[Finding]:
        """What is wrong, errors first; nothing if all is well. Takes a second, to see what grows.

        An unreachable Redis is a finding. ``variables`` names those of the environment to check: this process's.
        """
        try:
            reading = await self._read(sorted(os.environ if variables is None else variables))
        except RunlaneError as problem:
            return [error("redis", problem.message, why="nothing works without it", fix=problem.hint or "start it")]
        return diagnose(reading)

    async def _read(self, variables: Sequence[str]) -> Reading:
        before = await self._store.read(read_server)
        await asyncio.sleep(_LOOK_AGAIN_S)
        sent_ms, started = now_ms(), time.perf_counter()
        server = await self._store.read(read_server)
        latency_ms = (time.perf_counter() - started) * 1000
        status = await self.status()
        troubles = await self._store.read(lambda redis: read_troubles(redis, status, session_limit=self._session_limit))
        return Reading(
            status=status,
            server=server,
            troubles=troubles,
            ingress_before=before.ingress,
            latency_ms=latency_ms,
            clock_ahead_ms=server.now_ms - round(sent_ms + latency_ms / 2),
            variables=tuple(variables),
        )
