"""Whether a worker is alive, and whether it is ready: pure decisions about what was seen of it.

Alive is a question for a supervisor that restarts what is not: only what a restart cures counts. A worker that waits
for Redis is alive, since a new process would wait as well, and would have lost its warm plugins.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime_core.store.timing import WORKER_TTL_MS

#: Seconds for which a part may stand still while Redis answers; longer than the longest pause (30 s) between two of
#: Celery's tries to reconnect, and than several restarts of a silent consumer (5 s each).
RESTART_AFTER = 45.0
#: Seconds without an answer of Redis after which the fleet no longer counts the worker.
_SILENT_AFTER = WORKER_TTL_MS / 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Vitals:
    """What was seen of a worker at one time; spans in seconds."""

    #: Connected, agents loaded, keeping partitions.
    opened: bool
    draining: bool = False
    loop_hangs: bool = False
    #: Which part does not work, see Liveness.problem.
    problem: str | None = None
    #: For how long one part or another has not worked.
    problem_lasts: float = 0.0
    #: Since the fleet was last read from Redis.
    redis_silent: float = 0.0
    #: For how long Redis has answered without a gap.
    redis_answers: float = 0.0
    held: int = 0
    #: Partitions held whose lease was not renewed in time.
    lapsed: int = 0
    #: Partitions that nobody holds; with none held here, this worker is about to get some of them.
    unowned: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """The answer to a probe: healthy if nothing is ``missing``."""

    missing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.missing


def alive(vitals: Vitals) -> Health:
    """Not alive: its event loop hangs, or another part has stood still for RESTART_AFTER while Redis answered."""
    if not vitals.opened:
        return Health(missing=())
    if vitals.loop_hangs:
        return Health(missing=(vitals.problem or "the event loop does not turn",))
    stuck = min(vitals.problem_lasts, vitals.redis_answers)
    if vitals.problem and stuck >= RESTART_AFTER and vitals.redis_silent < _SILENT_AFTER:
        return Health(missing=(f"for {stuck:.0f} s: {vitals.problem}",))
    return Health(missing=())


def ready(vitals: Vitals) -> Health:
    """Ready: it takes new runs now, or stands by for them because others hold every partition."""
    if not vitals.opened:
        return Health(missing=("it is starting: it waits for Redis, or loads its agents",))
    missing: list[str] = []
    if vitals.draining:
        missing.append("it drains: it takes no new runs")
    if vitals.problem:
        missing.append(vitals.problem)
    if vitals.redis_silent >= _SILENT_AFTER:
        missing.append(f"Redis has not answered for {vitals.redis_silent:.0f} s")
    if vitals.lapsed:
        missing.append(f"{vitals.lapsed} of its {vitals.held} leases were not renewed in time")
    if not (missing or vitals.held) and vitals.unowned:
        missing.append(f"it holds no partition yet, and {vitals.unowned} have no owner")
    return Health(missing=tuple(missing))
