"""Runs and sessions as people look for them: a row in a list, or the whole story. Times: ms by the clock of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_core.contracts.dead_letter import Interruption
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.run import RunRecord, RunRequest, RunState, StopReason


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """Which runs to list; an empty field lets all pass."""

    state: RunState | None = None
    #: How it ended; lists finished runs only.
    status: StopReason | None = None
    agent_id: str | None = None
    session_id: str | None = None
    #: Submitted (or, if it has finished, finished) at this time or later.
    since_ms: int | None = None


ALL_RUNS = RunFilter()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run in a list."""

    run_id: str
    partition: int
    #: None if its record cannot be read; ``unreadable`` says why.
    record: RunRecord | None
    unreadable: str = ""

    @property
    def at_ms(self) -> int:
        """When something happened to it last; newest first means this."""
        if self.record is None:
            return 0
        return self.record.finished_ms or self.record.started_ms or self.record.submitted_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class RunList:
    """Newest first."""

    rows: tuple[RunRow, ...]
    now_ms: int
    #: False: there are more unfinished runs than were looked at.
    complete: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStory:
    """All that the store keeps of one run."""

    now_ms: int
    #: The tenant's own name of the run.
    run_id: str
    partition: int
    record: RunRecord | None
    #: What was asked; None if it cannot be read or was refused.
    request: RunRequest | None
    #: How its attempts ended early: the newest 20, oldest first.
    history: tuple[Interruption, ...]
    #: Frames of its log, oldest first: the newest ones, and how many the log holds.
    frames: tuple[Frame, ...]
    frame_count: int
    #: Unfinished runs of its session before it, next one first: the head and how many there are.
    ahead: int
    head: RunRow | None
    children: tuple[str, ...]
    #: Worker that holds its partition's lease, empty if none does.
    owner: str
    #: Whether that worker's heartbeat is young.
    owner_beats: bool
    #: Keys that cannot be read, each with why.
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionView:
    session_id: str
    partition: int
    #: Worker that holds its partition's lease, empty if none does.
    worker: str
    #: Unfinished runs.
    pending: int
    #: The run that executes, or whose code has not ended.
    live_run: str | None
    #: Version of the agents config that it is pinned to.
    config_version: int | None
    #: When a run of it ended last.
    last_run_ms: int | None
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionList:
    """Those with unfinished runs first, then by their last run, newest first."""

    sessions: tuple[SessionView, ...]
    #: False: the store has more keys than were looked at.
    complete: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStory:
    """One session and what it keeps."""

    view: SessionView
    #: Unfinished runs, head first; at most 100.
    run_ids: tuple[str, ...]
    #: Top-level fields of its state, sorted.
    state_fields: tuple[str, ...]
    #: Messages of its transcript.
    messages: int
    artifacts: int
    #: Seconds until it is forgotten; None if it keeps nothing.
    expires_in_s: int | None
    #: Keys that cannot be read, each with why.
    unreadable: tuple[str, ...] = ()
