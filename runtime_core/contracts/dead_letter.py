"""A dead letter: a run that was given up on, kept with its full history for people."""

from __future__ import annotations

from pydantic import BaseModel

from runtime_core.contracts.run import RunRecord, RunRequest


class Interruption(BaseModel):
    """Why one attempt ended early. Times are milliseconds since the epoch by the clock of Redis."""

    #: What it counted as: crashes, interruptions, handovers, or spared (another run was to blame).
    count: str
    reason: str
    attempt: int
    worker: str
    fence: str
    started_ms: int
    ended_ms: int
    #: It crashed while the run was in probation, and was charged to it.
    probation: bool = False


class DeadLetter(BaseModel):
    record: RunRecord
    #: What was asked; None if this release cannot read it.
    request: RunRequest | None
    #: The newest 20, oldest first.
    history: list[Interruption]
    #: The run that it was submitted as again, if it was.
    redriven_as: str | None = None
