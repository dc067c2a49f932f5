"""Fault schedules: data. ``every`` and ``first`` are seconds, counted from the first submit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.history import FaultKind


class Target(StrEnum):
    #: One worker, by lot; a starting one, too.
    ANY = "any"
    #: One worker that executes a run, by lot.
    BUSY = "busy"
    #: All workers at once.
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault, again and again."""

    kind: FaultKind
    every: float
    first: float | None = None
    target: Target = Target.ANY
    #: Seconds that it lasts: these in turn.
    lasts: Sequence[float] = (0.0,)
    #: Seconds, of a DELAY.
    delay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A load and the faults that meet it."""

    faults: Sequence[Fault] = ()
    workers: int = 4
    partitions: int = 64
    runs: int = 1_000
    sessions: int = 100
    #: Runs a second.
    rate: float = 5.0
    #: Shortest and longest run, seconds.
    seconds: tuple[float, float] = (0.2, 2.0)
    #: Submit more than ``runs`` until so many SIGKILLs hit an executing run.
    hits: int = 0


_DOORBELLS = (
    Fault(kind=FaultKind.DOORBELLS_LOST, every=5.0, first=1.0),
    Fault(kind=FaultKind.DOORBELLS_TRIPLED, every=3.0, first=2.5),
)

SCHEDULES: dict[str, Schedule] = {
    "mix": Schedule(
        runs=1_200,
        rate=6.0,
        faults=(
            Fault(kind=FaultKind.SIGKILL, every=5.0, first=2.0),
            Fault(kind=FaultKind.SIGSTOP, every=17.0, lasts=(2.0, 8.0, 12.0)),
            Fault(kind=FaultKind.SIGTERM, every=19.0),
            Fault(kind=FaultKind.REDIS_KILL, every=41.0, lasts=(0.5, 4.0)),
            Fault(kind=FaultKind.CUT, every=7.0, target=Target.ANY),
            Fault(kind=FaultKind.CUT, every=31.0, target=Target.ALL),
            Fault(kind=FaultKind.DELAY, every=13.0, lasts=(4.0,), delay=0.3),
            Fault(kind=FaultKind.ISOLATION, every=37.0, lasts=(3.0, 9.0)),
            *_DOORBELLS,
        ),
    ),
    "short": Schedule(
        partitions=16,
        runs=120,
        sessions=30,
        rate=5.0,
        faults=(
            Fault(kind=FaultKind.SIGKILL, every=4.0, first=2.0, target=Target.BUSY),
            Fault(kind=FaultKind.SIGSTOP, every=60.0, first=5.0, lasts=(8.0,), target=Target.BUSY),
            Fault(kind=FaultKind.SIGTERM, every=60.0, first=9.0),
            Fault(kind=FaultKind.REDIS_KILL, every=60.0, first=15.0, lasts=(0.5,)),
            Fault(kind=FaultKind.CUT, every=9.0, first=3.0, target=Target.ALL),
            Fault(kind=FaultKind.DELAY, every=60.0, first=11.0, lasts=(3.0,), delay=0.2),
            *_DOORBELLS,
        ),
    ),
    "kills": Schedule(hits=100, rate=5.0, faults=(Fault(kind=FaultKind.SIGKILL, every=2.0),)),
    "stops": Schedule(
        runs=600,
        faults=(Fault(kind=FaultKind.SIGSTOP, every=6.0, first=2.0, lasts=(2.0, 8.0, 30.0), target=Target.BUSY),),
    ),
    "outages": Schedule(
        runs=500,
        faults=(Fault(kind=FaultKind.REDIS_KILL, every=50.0, first=10.0, lasts=(10.0, 30.0)),),
    ),
}
