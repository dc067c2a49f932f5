"""All that a diagnosis looks at, read at about one moment."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_core.contracts.checkup import ServerView, Troubles
from runtime_core.contracts.fleet import FleetStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    status: FleetStatus
    server: ServerView
    troubles: Troubles
    #: Submissions by plain Celery clients that waited a second before.
    ingress_before: int
    #: Milliseconds that a round trip to Redis took.
    latency_ms: float
    #: By how much the clock of Redis is ahead of this machine's.
    clock_ahead_ms: int
    #: Names of this environment's variables.
    variables: tuple[str, ...] = ()
