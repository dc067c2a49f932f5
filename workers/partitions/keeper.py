"""Keeps this worker's share of the partitions: heartbeat, acquire, freeze, sweep and repair, loss, release."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from uuid import uuid4

from redis.exceptions import ResponseError

from runtime_core.clock import boot_seconds
from runtime_core.errors import LeaseLost, RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store.attempts import AttemptStore
from runtime_core.store.connection import RETRYABLE
from runtime_core.store.leases import FleetView, LeaseStore, LeaseView
from runtime_core.store.timing import LEASE_TTL_MS, LOOK_INTERVAL, SETTLE_SECONDS, SWEEP_INTERVAL
from workers.execution.attempts import AttemptTable, StopCause
from workers.monitoring.metrics import LEASES_ACQUIRED, LEASES_LOST, LEASES_MOVED, REPAIRS, TAKEOVERS
from workers.partitions.assignor import wanted
from workers.partitions.contact import Contact
from workers.partitions.ownership import Ownership

logger = logging.getLogger(__name__)

#: Seconds that a worker which leaves gives a Redis that may not answer.
_LAST_WORD = 2.0


class Consumption(Protocol):
    """The doorbell queues that this worker's consumer reads. Both return at once and may be called from any thread."""

    def join(self, partition: int) -> None: ...

    def leave(self, partition: int) -> None: ...


class PartitionKeeper:
    """1. A partition in ``held`` was acquired by this process and neither released nor lost; its queue is consumed.

    2. A loss stops the partition's attempts at once; a release waits for its caller to have ended them.
    3. What the store believes to run here and does not is repaired.
    4. While the worker drains, or ``works`` says that a part of it does not, it acquires nothing and the fleet does not
       count it as one that takes partitions. It goes on to beat, so that a takeover is no crash.
    """

    def __init__(
        self,
        *,
        worker: str,
        partitions: int,
        leases: LeaseStore,
        attempts: AttemptStore,
        table: AttemptTable,
        consumption: Consumption,
        info: Callable[[], Mapping[str, str]],
        works: Callable[[], bool],
        expect_workers: int | None,
        on_left: Callable[[int], None],
        on_swept: Callable[[], Awaitable[object]],
        on_cascade: Callable[[ScopedRunId], object],
    ) -> None:
        self._worker = worker
        self._partitions = partitions
        self._leases = leases
        self._attempts = attempts
        self._table = table
        self._consumption = consumption
        self._info = info
        self._works = works
        self._expect_workers = expect_workers
        self._on_left = on_left
        self._on_swept = on_swept
        self._on_cascade = on_cascade
        #: Owners of acquisitions whose reply was lost: the next try repeats them.
        self._unanswered: dict[int, str] = {}
        #: What was last said of a partition whose keys are broken: it is said once, not at each look.
        self._broken: dict[int, str] = {}
        self._started = boot_seconds()
        self._swept = 0.0
        self._look = asyncio.Event()
        self._ticking = asyncio.Lock()
        self._left = False
        self.draining = False
        self.held: dict[int, Ownership] = {}
        #: The last reading of the fleet.
        self.fleet: FleetView | None = None
        self.contact = Contact(self._started)

    async def run(self, on_look: Callable[[FleetView], object]) -> None:
        """Keep going until this worker leaves; ``on_look`` gets each reading of the fleet. Redis errors are logged and
        tried again.
        """
        while not self._left:
            try:
                async with self._ticking:
                    await self._tick(on_look)
            except RETRYABLE as error:
                logger.warning("Redis does not answer, trying again: %s", error)
            except Exception:
                logger.exception("keeping the partitions failed, trying again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await self._look.wait()
            self._look.clear()

    def look_now(self) -> None:
        """A partition was released: do not wait for the next tick. Loop thread."""
        self._look.set()

    def lose(self, ownership: Ownership) -> None:
        """Another worker owns the partition: stop what runs there, write nothing more."""
        if self._forget(ownership):
            LEASES_LOST.inc()
            logger.warning("partition %d is lost to another worker", ownership.lease.partition)
        self.abandon(ownership)

    def abandon(self, ownership: Ownership) -> None:
        """The process ends and could not release it: what runs there ends without another word, its lease expires."""
        ownership.lost = True
        for attempt in self._table.of(ownership):
            attempt.stop(StopCause.LEASE_LOST)

    def freeze(self, ownership: Ownership) -> None:
        """Admit nothing more in a partition that is about to be handed over."""
        ownership.frozen = True
        self._consumption.leave(ownership.lease.partition)

    def thaw(self, ownership: Ownership) -> None:
        """Admit again, unless the worker drains or the partition has left. Doorbells that were dropped meanwhile are
        rung again by the sweep.
        """
        if not self.draining and self.held.get(ownership.lease.partition) is ownership:
            ownership.frozen = False
            self._consumption.join(ownership.lease.partition)

    async def release(self, ownership: Ownership, *, heir: str = "") -> None:
        """Give a partition up, its attempts having ended, kept for ``heir`` for a while. Repeats until Redis answers or
        the lease has lapsed. One that cannot be released expires.
        """
        self._forget(ownership)
        try:
            async with asyncio.timeout(max(_LAST_WORD, ownership.until - boot_seconds())):
                while True:
                    try:
                        await self._leases.release(ownership.lease, reserved_for=heir)
                        LEASES_MOVED.inc()
                        return
                    except RETRYABLE:
                        await asyncio.sleep(LOOK_INTERVAL)
        except TimeoutError:
            logger.warning("partition %d was not released, Redis is away: it expires", ownership.lease.partition)
        except (ResponseError, RunlaneError) as error:
            logger.error("partition %d cannot be released, it expires: %s", ownership.lease.partition, error)

    async def leave(self) -> None:
        """Withdraw the heartbeat and beat no more. If partitions are still held, because code in them does not end, it
        outlives their leases instead: who takes them over counts no crash.
        """
        self._left = True
        try:
            async with asyncio.timeout(_LAST_WORD), self._ticking:
                if self.held:
                    await self._leases.heartbeat(self._worker, self._info(), accepting=False, ttl_ms=2 * LEASE_TTL_MS)
                else:
                    await self._leases.leave(self._worker)
        except (TimeoutError, *RETRYABLE) as error:
            logger.warning("the heartbeat was not withdrawn, it expires: %r", error)

    async def _tick(self, on_look: Callable[[FleetView], object]) -> None:
        await self._leases.heartbeat(self._worker, self._info(), accepting=self._accepts())
        self.fleet = fleet = await self._leases.observe(self._partitions)
        for view in fleet.leases:
            if view.broken:
                self._report_broken(view.partition, view.broken)
            elif view.owner:
                self._broken.pop(view.partition, None)
        now, held = boot_seconds(), set(self.held)
        self.contact.answered(now)
        candidates = wanted(
            fleet,
            self._worker,
            held=self.held,
            unanswered=self._unanswered.values(),
            settled=self._settled(fleet, now),
        )
        for view in candidates:
            if not self._accepts():
                break
            if boot_seconds() - now >= LOOK_INTERVAL:
                self.look_now()  # takes the rest, after a heartbeat: without it the fleet's pulse would start anew
                break
            try:
                await self._acquire(view.partition)
            except ResponseError as error:  # its keys are broken; the others can be taken
                self._report_broken(view.partition, f"it cannot be acquired: {error}")
        self._report_taken([view for view in candidates if view.partition in self.held.keys() - held])
        on_look(fleet)
        if now - self._swept >= SWEEP_INTERVAL:
            self._swept = now
            await self._sweep()
            await self._on_swept()

    def _report_taken(self, taken: Sequence[LeaseView]) -> None:
        if taken:
            numbers = ", ".join(str(number) for number in sorted(view.partition for view in taken))
            lapsed = ", ".join(sorted({view.worker for view in taken if view.owner}))
            why = f", for the leases of {lapsed} had lapsed" if lapsed else ""
            LEASES_ACQUIRED.inc(len(taken))
            TAKEOVERS.inc(sum(bool(view.owner) for view in taken))
            logger.info("took %s of the partitions%s; holds %d", numbers, why, len(self.held))

    def _accepts(self) -> bool:
        return not self.draining and self._works()

    def _settled(self, fleet: FleetView, now: float) -> bool:
        """A worker that starts waits a moment for the others, so that the fleet divides the partitions once."""
        if self._expect_workers is not None and len(fleet.members) >= self._expect_workers:
            return True
        return now - self._started >= SETTLE_SECONDS

    async def _acquire(self, partition: int) -> None:
        owner = self._unanswered.setdefault(partition, f"{self._worker}#{uuid4().hex}")
        sent = boot_seconds()
        lease = await self._leases.acquire(partition, owner)
        del self._unanswered[partition]
        if lease is None:
            return
        if self.draining:  # since the request was sent: whoever drains has not seen this partition
            await self._leases.release(lease)
            return
        self.held[partition] = Ownership(lease, sent)
        self._consumption.join(partition)

    async def _sweep(self) -> None:
        held = [ownership for ownership in self.held.values() if ownership.valid]
        if not held:
            return
        began = boot_seconds()
        in_hand = {ownership.lease: self._table.bells_in_hand(ownership) for ownership in held}
        for ownership, swept in zip(held, await self._leases.sweep(in_hand), strict=True):
            if isinstance(swept, RunlaneError):
                if not isinstance(swept, LeaseLost):  # of which the renewal thread is about to speak
                    logger.error("%s", swept)
                continue
            for run, attempt in swept.running:
                # No longer than a look, since nobody beats meanwhile; the next sweep finds the rest.
                if run not in self._table and boot_seconds() - began < LOOK_INTERVAL:
                    try:
                        if await self._attempts.repair(ownership.lease, run, attempt):  # else it has ended meanwhile
                            REPAIRS.inc()
                            logger.warning("run %s was marked as running here and was not: it starts again", run)
                    except ResponseError as error:  # its record is broken; the other runs can be repaired
                        logger.error("run %s could not be repaired: %s", run, error)
            for run in swept.cascades:
                self._on_cascade(run)

    def _report_broken(self, partition: int, problem: str) -> None:
        if self._broken.get(partition) != problem:
            self._broken[partition] = problem
            logger.error(
                "partition %d is broken: %s\n"
                "  hint: correct the key; a lease may be deleted, its partition is free then",
                partition,
                problem,
            )

    def _forget(self, ownership: Ownership) -> bool:
        """Stop consuming; False if that had happened before."""
        ownership.frozen = True
        partition = ownership.lease.partition
        if self.held.get(partition) is not ownership:
            return False
        del self.held[partition]
        self._consumption.leave(partition)
        self._on_left(partition)
        return True
