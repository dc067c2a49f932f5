"""Looks on from outside while it happens: who owns which partition, and who executes what by the journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_core.clock import boot_seconds
from runtime_core.store.leases import FleetView, LeaseStore
from tests.chaos.history import OwnerSeen
from tests.chaos.journal import Line, What


class LeaseWatch:
    """Every change of owner that a look each ``every`` seconds shows."""

    def __init__(self, redis: Redis, partitions: int, *, every: float = 0.1) -> None:
        self._leases = LeaseStore(redis)
        self._partitions = partitions
        self._every = every
        #: Partition → (worker, fence).
        self._last: dict[int, tuple[str, str]] = {}
        self.changes: list[OwnerSeen] = []
        #: Each change of the members, as names: when it was seen, and who they were.
        self.members: list[tuple[float, frozenset[str]]] = []
        self.fleet: FleetView | None = None

    async def run(self) -> None:
        while True:
            try:
                self._note(await self._leases.observe(self._partitions))
            except (RedisError, OSError):
                self.fleet = None
            await asyncio.sleep(self._every)

    def holdings(self) -> Counter[str]:
        """How many partitions each worker holds, at the last look; nobody's under the empty name."""
        return Counter(worker for worker, _ in self._last.values())

    def balanced(self, names: Collection[str]) -> bool:
        """Whether exactly these are members, and share all partitions evenly."""
        held = self.holdings()
        share, extra = divmod(self._partitions, len(names))
        even = all(share <= held[name] <= share + (extra > 0) for name in names)
        return bool(self.members) and self.members[-1][1] == frozenset(names) == frozenset(held) and even

    def _note(self, fleet: FleetView) -> None:
        at = boot_seconds()
        self.fleet = fleet
        members = frozenset(map(node, fleet.members))
        if not self.members or self.members[-1][1] != members:
            self.members.append((at, members))
        for lease in fleet.leases:
            worker = node(lease.owner)
            if self._last.get(lease.partition) != (worker, lease.fence):
                self._last[lease.partition] = (worker, lease.fence)
                self.changes.append(OwnerSeen(at=at, partition=lease.partition, worker=worker, fence=lease.fence))


def node(worker: str) -> str:
    """The name that a worker was started under, of ``<name>@<host>.<suffix>#<acquisition>``."""
    return worker.partition("@")[0]


class JournalTail:
    """The journal as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._executing: dict[tuple[str, int], int] = {}
        self._starts = 0

    def started(self) -> int:
        """How many executions have started."""
        self._catch_up()
        return self._starts

    def busy(self) -> set[int]:
        """Processes that execute a run now, or died over one."""
        self._catch_up()
        return set(self._executing.values())

    def _catch_up(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as journal:
            journal.seek(self._read)
            data = journal.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for text in whole.splitlines():
            line = Line.model_validate_json(text)
            if line.what is What.START:
                self._starts += 1
                self._executing[line.run, line.pid] = line.pid
            elif line.what in (What.END, What.CUT):
                self._executing.pop((line.run, line.pid), None)
