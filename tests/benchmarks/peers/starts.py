"""When the runs of a stream begin to speak, ours and the peer's alike."""

from __future__ import annotations

import time


def starts(runs: int, rate: float, lead_s: float) -> list[float]:
    """When each run begins to speak: at a pace they share the time between two events, else all at once."""
    now = time.time()
    return [now + lead_s + (number / runs / rate if rate else 0.0) for number in range(runs)]
