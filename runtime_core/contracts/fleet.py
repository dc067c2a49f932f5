"""What Redis says of a fleet at one moment, for people who look after it. Times are ms by the clock of Redis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PartitionState(StrEnum):
    #: A worker holds an unexpired lease.
    OWNED = "owned"
    #: Its lease has run out, and nobody has taken it yet.
    LAPSED = "lapsed"
    #: Free, and kept for a moment for the worker that lacks it.
    RESERVED = "reserved"
    #: Free, or never owned.
    FREE = "free"
    #: Its lease cannot be read: nobody takes it.
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerView:
    """One worker process, as it said with its last heartbeat."""

    name: str
    #: Since its heartbeat was overdue, ms; 0 for one that beats.
    silent_ms: int
    #: It takes partitions: it beats and does not drain.
    member: bool
    node: str = ""
    host: str = ""
    pid: int | None = None
    release: str = ""
    started_ms: int | None = None
    #: Its own clock at that heartbeat, ms since the epoch.
    seen_ms: int | None = None
    #: Why it gives its partitions up; empty if it works.
    problem: str = ""
    config_version: int | None = None
    #: Why the newest agents config is not loaded there.
    config_problem: str = ""
    draining: bool = False
    #: Runs that may execute there at once.
    concurrency: int | None = None
    #: Runs that execute there.
    executing: int | None = None
    #: Sessions whose plugins are warm there.
    sessions: int | None = None
    #: Partitions that it says it holds.
    partitions: int | None = None
    metrics_port: int | None = None
    health_port: int | None = None
    #: What of its words cannot be read.
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadView:
    """The first unfinished run of a session of which nothing executes: it waits for a worker."""

    run_id: str
    session_id: str
    tenant: str
    partition: int
    #: When it was submitted.
    since_ms: int
    #: When its doorbell is due again.
    due_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionView:
    partition: int
    state: PartitionState
    #: Who holds it, or held it last.
    worker: str = ""
    fence: str = ""
    reserved_for: str = ""
    #: When its lease ran out or runs out; 0 if it never had one.
    expires_ms: int = 0
    submitted: int = 0
    finished: int = 0
    #: Unfinished runs.
    pending: int = 0
    #: Doorbells that wait in its Celery queue.
    doorbells: int = 0
    #: Sessions of which a run executes.
    live: int = 0
    #: Sessions whose head waits for a worker.
    ready: int = 0
    dead_letters: int = 0
    #: When its newest run was given up on; 0 if none was.
    last_dead_ms: int = 0
    #: Those of its heads that have waited longest, longest first; at most three.
    heads: tuple[HeadView, ...] = ()
    #: What of it cannot be read.
    broken: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetStatus:
    now_ms: int
    redis_version: str
    #: Of the keys and scripts; None in a store that nobody has used yet.
    protocol: int | None
    #: P.
    partition_count: int
    #: Current version of the agents config; 0 if none was ever published.
    config_version: int
    workers: tuple[WorkerView, ...]
    partitions: tuple[PartitionView, ...]
    #: Submissions by plain Celery clients that no worker has taken yet.
    ingress: int
    #: Such submissions that could not be read.
    bad_ingress: int
    #: Keys of the whole store that cannot be read, each with why.
    unreadable: tuple[str, ...] = ()

    @property
    def oldest_waiting(self) -> HeadView | None:
        """The run that has waited longest for a worker."""
        heads = [head for partition in self.partitions for head in partition.heads]
        return min(heads, key=lambda head: head.since_ms, default=None)

    @property
    def submitted(self) -> int:
        return sum(partition.submitted for partition in self.partitions)

    @property
    def pending(self) -> int:
        return sum(partition.pending for partition in self.partitions)

    @property
    def finished(self) -> int:
        return sum(partition.finished for partition in self.partitions)

    def count(self, state: PartitionState) -> int:
        return sum(partition.state is state for partition in self.partitions)
