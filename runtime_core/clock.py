"""Clocks: wall time for records and frames, boot time for the validity of leases."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def boot_seconds() -> float:
    """CLOCK_BOOTTIME in seconds: monotonic, and it goes on while the machine is suspended or the process stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
