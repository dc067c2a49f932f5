"""Gives partitions away that other members should have: freeze → grace → release, kept for the member that lacks it."""

from __future__ import annotations

import asyncio
import logging

from runtime_core.clock import boot_seconds
from runtime_core.store.leases import FleetView
from workers.execution.attempts import AttemptTable, StopCause
from workers.partitions.assignor import to_give
from workers.partitions.keeper import PartitionKeeper
from workers.partitions.ownership import Ownership

logger = logging.getLogger(__name__)

#: Seconds for which the members must have stayed the same: workers that start together are served once.
STABLE_SECONDS = 1.0
#: Seconds for which a partition that did not become quiet is left alone.
_AVOID_SECONDS = 30.0
#: Seconds after the grace that attempts which were cut get to end.
_ENDING_GRACE = 4.0
#: Seconds between two looks at what still runs.
_POLL = 0.05


class Rebalancer:
    """1. As many partitions move at a time as this worker has too many of, the least busy first, each by itself.

    2. A partition that is not quiet within ``grace`` seconds is thawed, and another one moves. No run is cut but those
       that go on elsewhere where they are cut: those that wait, and after ``grace`` durable ones.
    3. When the fleet changes its mind (the member that joined died), what has not been released yet is thawed.
    """

    def __init__(self, keeper: PartitionKeeper, table: AttemptTable, *, worker: str, grace: float) -> None:
        self._keeper = keeper
        self._table = table
        self._worker = worker
        self._grace = grace
        #: Members that should get a partition of ours, by the last look; as many of ours move.
        self._heirs: list[str] = []
        #: Frozen for one of them, and not released yet.
        self._moving: set[Ownership] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._avoided: dict[int, float] = {}
        self._members: frozenset[str] = frozenset()
        self._stable_since = boot_seconds()

    def consider(self, fleet: FleetView) -> None:
        """The keeper looked at the fleet. Loop thread; returns at once."""
        now = boot_seconds()
        if fleet.members != self._members:
            self._members, self._stable_since = fleet.members, now
        if self._keeper.draining:
            self._heirs = []
        elif now - self._stable_since >= STABLE_SECONDS:
            self._heirs = to_give(fleet, self._worker, len(self._keeper.held))
        for ownership in self._least_busy(now)[: max(0, len(self._heirs) - len(self._moving))]:
            self._moving.add(ownership)
            task = asyncio.create_task(self._move(ownership))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """The worker drains: what is being released is, the rest is left to the drain."""
        self._heirs = []
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _least_busy(self, now: float) -> list[Ownership]:
        self._avoided = {partition: until for partition, until in self._avoided.items() if until > now}
        movable = [
            ownership
            for partition, ownership in self._keeper.held.items()
            if ownership not in self._moving and ownership.admits and partition not in self._avoided
        ]
        return sorted(movable, key=lambda ownership: len(self._table.of(ownership)))

    async def _move(self, ownership: Ownership) -> None:
        partition = ownership.lease.partition
        self._keeper.freeze(ownership)
        try:
            heir = self._heirs.pop(0) if await self._quiet(ownership) else None
        finally:
            self._moving.remove(ownership)  # together with its heir: the others are compared with those that are left
        if heir is None:
            self._keeper.thaw(ownership)
        else:
            logger.info("partition %d moves to %s", partition, heir)
            await self._keeper.release(ownership, heir=heir)

    async def _quiet(self, ownership: Ownership) -> bool:
        """Wait until nothing of the partition executes; False if it is not to move after all."""
        deadline = boot_seconds() + self._grace
        while not ownership.lost and len(self._moving) <= len(self._heirs):
            left = self._table.of(ownership)
            if not left:
                return True
            over = boot_seconds() >= deadline
            if all(attempt.waits or (over and attempt.durable) for attempt in left):
                for attempt in left:
                    attempt.stop(StopCause.HANDOVER)
            if boot_seconds() >= deadline + (_ENDING_GRACE if any(attempt.cause for attempt in left) else 0):
                self._avoided[ownership.lease.partition] = boot_seconds() + _AVOID_SECONDS
                return False
            await asyncio.sleep(_POLL)
        return False
