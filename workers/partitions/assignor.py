"""Which partitions a worker should take: pure, from what it observed.

Quota: ceil(P / members). A worker below its quota takes free partitions and those whose lease expired, in an order of
its own (rendezvous hash), so that workers that start together do not race for the same ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection

from runtime_core.store.leases import FleetView, LeaseView


def quota(partitions: int, members: int) -> int:
    return math.ceil(partitions / max(1, members))


def preference(worker: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{worker}/{partition}".encode(), digest_size=8).digest()


def may_take(lease: LeaseView, worker: str, now_ms: int, unchanged_for_ttl: bool) -> bool:
    """A free partition that is not kept for another, or one whose holder let it expire before our own eyes."""
    if lease.owner:
        return lease.expires_ms <= now_ms and unchanged_for_ttl
    return lease.reserved_for in ("", worker) or lease.reserved_until_ms <= now_ms


def wanted(
    fleet: FleetView,
    worker: str,
    *,
    held: Collection[int],
    unanswered: Collection[str],
    unchanged_for_ttl: Collection[int],
) -> list[LeaseView]:
    """The leases to acquire now, best first.

    ``held``: partitions of this worker. ``unanswered``: owners of its acquisitions whose reply was lost; a lease that
    shows one of them is its own already. ``unchanged_for_ttl``: partitions whose lease stood still that long.
    """
    room = quota(len(fleet.leases), len(fleet.members.keys() | {worker})) - len(held)
    candidates = [
        lease
        for lease in fleet.leases
        if lease.partition not in held
        and (lease.owner in unanswered or may_take(lease, worker, fleet.now_ms, lease.partition in unchanged_for_ttl))
    ]
    candidates.sort(key=lambda lease: preference(worker, lease.partition), reverse=True)
    return candidates[: max(0, room)]
