"""Whether Redis answers, as the keeper of partitions sees it."""

from __future__ import annotations

from runtime_core.store.timing import LEASE_TTL_MS


class Contact:
    """``last``: when Redis last answered; ``since``: since when, with no gap of a lease's life. Boot seconds."""

    def __init__(self, now: float) -> None:
        self.last = self.since = now

    def answered(self, now: float) -> None:
        if now - self.last >= LEASE_TTL_MS / 1000:
            self.since = now
        self.last = now
