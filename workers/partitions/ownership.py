"""What this process owns: one Ownership per held partition, from acquire to release or loss.

Read and written from three threads (asyncio loop, Celery's hub, lease renewal): every field is replaced whole.
"""

from __future__ import annotations

import asyncio

from runtime_core.clock import boot_seconds
from runtime_core.errors import LeaseLost
from runtime_core.store.leases import Lease
from runtime_core.store.timing import LEASE_TTL_MS, SAFETY_MARGIN

#: Seconds between two looks at a lease whose validity is uncertain; Redis is away then, nothing is urgent.
_GUARD_POLL = 0.05


def valid_until(request_sent: float) -> float:
    """Until when (boot seconds) a lease may be trusted that Redis granted to a request sent at that time."""
    return request_sent + LEASE_TTL_MS / 1000 - SAFETY_MARGIN


class Ownership:
    """One held partition.

    1. ``valid`` says whether the lease is trusted now; it lapses by itself when renewals fail.
    2. A lapsed lease pauses what runs (``guard`` waits); only ``lost`` ends it (``guard`` raises LeaseLost).
    3. While ``frozen``, because the partition is about to be handed over, nothing more is admitted.
    """

    def __init__(self, lease: Lease, request_sent: float) -> None:
        self.lease = lease
        self.until = valid_until(request_sent)
        self.lost = False
        self.frozen = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "frozen" if self.frozen else "valid" if self.valid else "lapsed"
        return f"<Ownership {self.lease.partition} {state}>"

    @property
    def valid(self) -> bool:
        return not self.lost and boot_seconds() < self.until

    @property
    def admits(self) -> bool:
        return self.valid and not self.frozen

    async def guard(self) -> None:
        """Return when the lease is valid; raise LeaseLost when it is lost."""
        while not self.valid:
            if self.lost:
                raise LeaseLost(f"partition {self.lease.partition} is owned by another worker")
            await asyncio.sleep(_GUARD_POLL)
