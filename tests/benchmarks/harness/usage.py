"""CPU time and memory of processes and all below them, from /proc.

See https://docs.kernel.org/filesystems/proc.html
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Writing this to clear_refs makes the peak of the resident set start again.
_RESET_PEAK = "5"


def family(pid: int) -> Iterator[int]:
    """``pid`` and its descendants that live now."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from family(int(child))


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time since they started; 10 ms fine, so measure over a second or so."""
    total = 0
    for pid in (member for root in pids for member in family(root)):
        with contextlib.suppress(OSError):
            # The name may hold spaces; what follows its last parenthesis does not.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The largest resident set since the start, or since ``reset_peak``."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status says no {name}")
