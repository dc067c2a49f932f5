"""The process's table of runs: what it is about to admit, executes, or still has code of.

A run enters before its admit is sent and leaves after its finish is answered (and after its code has ended). What the
store believes to be running here and is not in this table is repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from typing import Any

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import RunResult
from runtime_core.ids import ScopedRunId
from runtime_core.store.attempts import Admission, Refusal
from workers.partitions.ownership import Ownership


class StopCause(StrEnum):
    """Why an attempt is made to end early."""

    CANCEL = "cancel"
    SOFT_LIMIT = "soft_limit"
    HARD_LIMIT = "hard_limit"
    #: The partition moves; the run goes on elsewhere.
    HANDOVER = "handover"
    LEASE_LOST = "lease_lost"

    @property
    def writes_finish(self) -> bool:
        """Every end inside a living process is written, but for those after which the run goes on elsewhere."""
        return self not in (StopCause.HANDOVER, StopCause.LEASE_LOST)


class Attempt:
    """One entry of the table. ``answer`` is None while its admit is under way: its doorbell is in our hands."""

    def __init__(self, run: ScopedRunId, ownership: Ownership, *, within: Attempt | None = None) -> None:
        self.run = run
        #: The attempt of its parent, if it executes within that, in the same slot.
        self.within = within
        self.ownership = ownership
        self.answer: Admission | Refusal | None = None
        self.cause: StopCause | None = None
        #: The agent's own code, once it executes.
        self.work: asyncio.Task[RunResult] | None = None
        #: Called when it is made to end.
        self.on_stop: Callable[[], object] = lambda: None
        #: Waits of its run that are under way: it holds no slot then, and its partition counts as quiet.
        self.waits = 0
        #: Whether a later attempt would go on where this one is cut.
        self.durable = False
        #: Boot seconds of the answer of its admit; until then, of its doorbell.
        self.admitted = boot_seconds()

    def __repr__(self) -> str:
        at_work = "waiting" if self.waits else "executing"
        state = "admitting" if self.answer is None else self.cause or (at_work if self.work else "admitted")
        return f"<Attempt {self.run} {state}>"

    @cached_property
    def woken(self) -> asyncio.Event:
        """What its run waits for may have come."""
        return asyncio.Event()

    @contextmanager
    def waiting(self) -> Generator[bool]:
        """The run waits for something outside. True for the first wait of those that share the attempt's slot."""
        sharing = list(self._sharing())
        for attempt in sharing:
            attempt.waits += 1
        try:
            yield sharing[-1].waits == 1
        finally:
            for attempt in sharing:
                attempt.waits -= 1

    def _sharing(self) -> Iterator[Attempt]:
        """Itself, and those that it executes within."""
        attempt: Attempt | None = self
        while attempt is not None:
            yield attempt
            attempt = attempt.within

    def stop(self, cause: StopCause) -> None:
        """Make the attempt end. The first cause stands, and the code is cancelled once, so that it may clean up; only a
        lost lease overrides another cause. Loop thread.
        """
        if self.cause is not None and (cause is not StopCause.LEASE_LOST or self.cause is cause):
            return
        self.cause = cause
        self.on_stop()
        if self.work is not None:
            self.work.cancel()


class AttemptTable:
    """Attempts by run. Changed on the hub thread (entering) and the loop thread (leaving)."""

    def __init__(self) -> None:
        self._attempts: dict[ScopedRunId, Attempt] = {}

    def __contains__(self, run: object) -> bool:
        return run in self._attempts

    def __len__(self) -> int:
        return len(self._attempts)

    def enter(self, attempt: Attempt) -> bool:
        """False if the run is here already: this is a second doorbell."""
        return self._attempts.setdefault(attempt.run, attempt) is attempt

    def leave(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.run) is attempt:
            del self._attempts[attempt.run]

    def get(self, run: ScopedRunId) -> Attempt | None:
        return self._attempts.get(run)

    def of(self, ownership: Ownership) -> list[Attempt]:
        return [attempt for attempt in self._attempts.copy().values() if attempt.ownership is ownership]

    def bells_in_hand(self, ownership: Ownership) -> int:
        return sum(attempt.answer is None for attempt in self.of(ownership))

    def describe(self) -> list[dict[str, Any]]:
        return [
            {"run": attempt.run, "partition": attempt.ownership.lease.partition, "state": repr(attempt)}
            for attempt in self._attempts.copy().values()
        ]
