"""Who should hold which partition: pure, from one reading of the fleet. Every worker computes it for itself.

1. *Balanced*: each member's quota is P // n or one more.
2. *Sticky*: the members that hold most get the one more, so that the least number of partitions moves.
3. *Agreed*: from the same reading all workers compute the same quotas and the same moves.
4. *Nothing stays ownerless*: a partition that could be taken for ``ORPHAN_MS`` is taken above the quota, too, in fair
   shares at first, and by anyone after twice that time; it moves again later. Else a fleet whose members come and go
   would wait for those that are counted and do not take.

A member that holds more than its quota gives some away (``to_give``), one that holds less takes what is free
(``wanted``).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping

from runtime_core.store.leases import FleetView, LeaseView
from runtime_core.store.timing import LEASE_TTL_MS, ORPHAN_MS, UNOWNED_MS


def quotas(members: Collection[str], holding: Mapping[str, int], partitions: int) -> dict[str, int]:
    """How many partitions each member should hold. Members beyond P get 0: they are spares."""
    if not members:
        return {}
    share, extra = divmod(partitions, len(members))
    by_holding = sorted(members, key=lambda worker: (-holding.get(worker, 0), worker))
    return {worker: share + (place < extra) for place, worker in enumerate(by_holding)}


def holdings(fleet: FleetView) -> Counter[str]:
    """How many partitions each member holds, or is about to: those that are kept for it count as its own."""
    holders = (lease.worker if lease.owner else heir(lease, fleet) for lease in fleet.leases)
    return Counter(holder for holder in holders if holder in fleet.members)


def wanted(
    fleet: FleetView,
    worker: str,
    *,
    held: Collection[int],
    unanswered: Collection[str] = frozenset(),
    settled: bool = True,
) -> list[LeaseView]:
    """The leases to acquire now, best first.

    ``held``: partitions of this worker. ``unanswered``: owners of its acquisitions whose reply was lost; a lease that
    shows one of them is its own already. Those and what is kept for it, it takes whatever its quota is, since nobody
    else does; before it is ``settled`` only those.
    """
    members = fleet.members | {worker}

    def is_mine(lease: LeaseView) -> bool:
        return lease.owner in unanswered or (not lease.owner and heir(lease, fleet) == worker)

    mine = [lease for lease in fleet.leases if lease.partition not in held and is_mine(lease)]
    if not settled:
        return mine
    others = [
        lease
        for lease in fleet.leases
        if lease.partition not in held and not is_mine(lease) and may_take(lease, worker, fleet)
    ]
    # An order of its own (rendezvous hash), so that workers that start together do not race for the same ones.
    others.sort(key=lambda lease: _preference(worker, lease.partition), reverse=True)
    quota = quotas(members, holdings(fleet) | Counter({worker: len(held)}), len(fleet.leases))[worker]
    room = max(0, quota - len(held) - len(mine))
    orphans = [lease for lease in others[room:] if is_orphan(lease, fleet)]
    overdue = [lease for lease in orphans if is_orphan(lease, fleet, patience=2)]
    share = math.ceil(len(orphans) / len(members))
    return mine + others[:room] + max(overdue, orphans[:share], key=len)


def heirs(fleet: FleetView) -> list[str]:
    """The members that hold less than their quota, each as often as it lacks partitions."""
    holding = holdings(fleet)
    quota = quotas(fleet.members, holding, len(fleet.leases))
    return [worker for worker in sorted(quota) for _ in range(quota[worker] - holding[worker])]


def to_give(fleet: FleetView, worker: str, held: int) -> list[str]:
    """For each partition that ``worker``, which holds so many now, should give away: the member that should get it."""
    holding = holdings(fleet)
    holding[worker] = min(holding[worker], held)  # the reading may be older than what it gave away since
    quota = quotas(fleet.members, holding, len(fleet.leases))
    givers = [giver for giver in sorted(quota) for _ in range(holding[giver] - quota[giver])]
    return [to for giver, to in zip(givers, heirs(fleet), strict=False) if giver == worker]


def may_take(lease: LeaseView, worker: str, fleet: FleetView) -> bool:
    """A free partition that is not kept for another, or one whose lease lapsed while Redis answered the fleet.

    The acquire script decides the same again, by the clock of Redis.
    """
    if lease.broken:
        return False
    if lease.owner:
        return fleet.now_ms >= _lapsed_at(lease, fleet)
    return heir(lease, fleet) in ("", worker)


def is_orphan(lease: LeaseView, fleet: FleetView, *, patience: int = 1) -> bool:
    """Whether nobody took it although somebody could have for ``patience`` times ORPHAN_MS (at the start of a store,
    UNOWNED_MS).
    """
    if lease.fence == "0":
        return fleet.now_ms >= fleet.steady_since_ms + patience * UNOWNED_MS
    free_since = _lapsed_at(lease, fleet) if lease.owner else lease.reserved_until_ms
    return fleet.now_ms >= free_since + patience * ORPHAN_MS


def heir(lease: LeaseView, fleet: FleetView) -> str:
    """The member that a free partition is kept for, or empty."""
    kept = lease.reserved_until_ms > fleet.now_ms and lease.reserved_for in fleet.members
    return lease.reserved_for if kept else ""


def _lapsed_at(lease: LeaseView, fleet: FleetView) -> int:
    renewed = lease.expires_ms - LEASE_TTL_MS
    if renewed > fleet.now_ms + LEASE_TTL_MS:  # the clock of Redis went back, see acquire.lua
        renewed = 0
    return max(renewed, fleet.steady_since_ms) + LEASE_TTL_MS


def _preference(worker: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{worker}/{partition}".encode(), digest_size=8).digest()
