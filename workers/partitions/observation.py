"""How long each lease has stood still, as this process has seen it itself: pure.

A lease may be taken from another only after it was seen unchanged for one TTL during which Redis answered. Else an
outage of Redis, in which nobody can renew, would look like the death of every worker.
"""

from __future__ import annotations

from runtime_core.store.leases import FleetView
from runtime_core.store.timing import LEASE_TTL_MS


class LeaseObservation:
    def __init__(self) -> None:
        self._seen: dict[int, tuple[tuple[str, int], float]] = {}

    def note(self, fleet: FleetView, now: float) -> None:
        """Remember a reading of all leases at ``now``, boot seconds."""
        for lease in fleet.leases:
            mark = (lease.owner, lease.expires_ms)
            if self._seen.get(lease.partition, (None,))[0] != mark:
                self._seen[lease.partition] = (mark, now)

    def forget(self) -> None:
        """Redis did not answer: the time until now proves nothing."""
        self._seen.clear()

    def unchanged_for_ttl(self, now: float) -> frozenset[int]:
        since = now - LEASE_TTL_MS / 1000
        return frozenset(partition for partition, (_, first_seen) in self._seen.items() if first_seen <= since)
