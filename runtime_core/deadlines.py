"""Time limits that stand still while a run waits for something that is not its own work."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(kw_only=True)
class _Counted:
    deadline: asyncio.Timeout
    whole_run: bool
    #: Seconds that are left, while it stands still.
    remaining: float | None = None


class Deadlines:
    """The running ``asyncio.timeout`` s of one run: that of the whole run, and those of its steps."""

    def __init__(self) -> None:
        self._counted: list[_Counted] = []
        #: Pauses under way, by whether they stop the whole run's time too.
        self._pauses = {False: 0, True: 0}

    @contextmanager
    def counting(self, deadline: asyncio.Timeout, *, whole_run: bool = False) -> Generator[None]:
        """``deadline``, which has been entered, is one of them for the length of the context."""
        counted = _Counted(deadline=deadline, whole_run=whole_run)
        self._counted.append(counted)
        self._adjust()
        try:
            yield
        finally:
            self._counted.remove(counted)

    @contextmanager
    def paused(self, *, whole_run: bool = False) -> Generator[None]:
        """No step's time passes, and none of the whole run's if so asked. Pauses may overlap."""
        self._pauses[whole_run] += 1
        self._adjust()
        try:
            yield
        finally:
            self._pauses[whole_run] -= 1
            self._adjust()

    def time_left(self) -> float | None:
        """Seconds until the first of them, None without one."""
        now = asyncio.get_running_loop().time()
        whens = [counted.deadline.when() for counted in self._counted]
        return min((when - now for when in whens if when is not None), default=None)

    def _adjust(self) -> None:
        now = asyncio.get_running_loop().time()
        for counted in self._counted:
            stands = self._pauses[True] > 0 or (not counted.whole_run and self._pauses[False] > 0)
            when = counted.deadline.when()
            if stands and when is not None and not counted.deadline.expired():
                counted.remaining = when - now
                counted.deadline.reschedule(None)
            elif not stands and counted.remaining is not None:
                counted.deadline.reschedule(now + counted.remaining)
                counted.remaining = None
