"""Drain: freeze every partition, hand each over as soon as it is quiet, then let Celery stop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from runtime_core.clock import boot_seconds
from runtime_core.store.leases import FleetView
from workers.execution.attempts import AttemptTable, StopCause
from workers.partitions.assignor import heirs
from workers.partitions.keeper import PartitionKeeper
from workers.partitions.ownership import Ownership
from workers.partitions.rebalancer import Rebalancer

logger = logging.getLogger(__name__)

#: Seconds between two looks at what still runs.
_POLL = 0.05
#: Seconds after the grace that handed-over attempts get to end. Code that still lives then (a tool's thread) keeps its
#: partition: the process exits and the lease expires.
_ENDING_GRACE = 4.0


class Drain:
    """1. From the first ``run`` on nothing is admitted and nothing is acquired.

    2. A partition is released as soon as none of its attempts is left, for a member that lacks one; others go on.
       An attempt that waits is handed over at once: it waits elsewhere.
    3. After ``grace`` seconds what still runs is handed over: it starts again elsewhere, and nothing counts against it.
    4. What cannot be handed over in ``_ENDING_GRACE``, for it does not end or Redis is away, is abandoned.
    """

    def __init__(self, keeper: PartitionKeeper, rebalancer: Rebalancer, table: AttemptTable, *, worker: str) -> None:
        self._keeper = keeper
        self._rebalancer = rebalancer
        self._table = table
        self._worker = worker
        self._fleet: FleetView | None = None
        self._heirs: list[str] = []
        self._deadline = float("inf")
        self._task: asyncio.Task[None] | None = None

    async def run(self, grace: float) -> None:
        """Returns when the worker holds no partition. A second call with a shorter grace hurries the first along."""
        self._deadline = min(self._deadline, boot_seconds() + grace)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        self._keeper.draining = True
        held = list(self._keeper.held.values())
        for ownership in held:
            self._keeper.freeze(ownership)
        running = [attempt for ownership in held for attempt in self._table.of(ownership)]
        logger.info("draining: %d partitions, %d runs %s", len(held), len(running), running[:10])
        while held and boot_seconds() < self._deadline + _ENDING_GRACE:
            quiet = [ownership for ownership in held if not self._table.of(ownership)]
            held = [ownership for ownership in held if ownership not in quiet]
            await asyncio.gather(*(self._release(ownership) for ownership in quiet))
            over = boot_seconds() >= self._deadline
            for ownership in held:
                for attempt in self._table.of(ownership):
                    if over or attempt.waits:
                        attempt.stop(StopCause.HANDOVER)
            if held:
                await asyncio.sleep(_POLL)
        if held:
            logger.error("%d partitions have code that does not end: their leases expire", len(held))
        await self._rebalancer.stop()
        await self._keeper.leave()
        for ownership in held:
            self._keeper.abandon(ownership)
        logger.info("drained")

    async def _release(self, ownership: Ownership) -> None:
        if not ownership.lost:
            await self._keeper.release(ownership, heir=self._next_heir())

    def _next_heir(self) -> str:
        """The member that lacks a partition by the keeper's last look; it goes on looking while the worker drains."""
        fleet = self._keeper.fleet
        if fleet is not None and fleet is not self._fleet:
            self._fleet, self._heirs = fleet, heirs(replace(fleet, members=fleet.members - {self._worker}))
        return self._heirs.pop() if self._heirs else ""
