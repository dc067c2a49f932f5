"""What a checkup reads beside the fleet's status: the Redis server, and sessions that cannot go on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerView:
    """What Redis says of itself. None: it hides that (INFO is not permitted)."""

    now_ms: int
    version: str | None
    #: primary is ``master`` there, a replica ``slave``.
    role: str | None
    maxmemory_policy: str | None
    #: Bytes; 0 for no limit.
    maxmemory: int | None
    used_memory: int | None
    aof_enabled: bool | None
    #: The last write of the append-only file, and the last snapshot, went well.
    aof_ok: bool | None
    rdb_ok: bool | None
    #: Submissions by plain Celery clients that wait.
    ingress: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldSession:
    """A session that is live although the run that holds it does not run."""

    session_id: str
    tenant: str
    partition: int
    run_id: str
    #: State of that run, empty if it has no record.
    state: str
    #: When it finished; 0 if that is not known.
    finished_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FullSession:
    session_id: str
    tenant: str
    partition: int
    #: Unfinished runs.
    pending: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Troubles:
    held: tuple[HeldSession, ...] = ()
    #: Sessions with as many unfinished runs as they may have.
    full: tuple[FullSession, ...] = ()
