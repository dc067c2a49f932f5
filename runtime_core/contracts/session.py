"""What a session keeps between runs, and how an attempt writes to it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

_STEP = ":step:"
_NUMBER = re.compile("[0-9]{1,9}")


class SessionArtifact(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    kind: str = "generic"
    payload: Any = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Session managers of the openagents SDK ask for it."""
        return self.model_dump()


class SessionCheckpoint(BaseModel):
    """How a session stood: its state, and how long its transcript and its list of artifacts were."""

    model_config = ConfigDict(frozen=True)

    checkpoint_id: str
    state: dict[str, Any] = Field(default_factory=dict)
    transcript_length: int = 0
    artifact_count: int = 0
    #: ISO 8601, UTC.
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat())


class SessionWriter(Protocol):
    """How one attempt writes to its session: staged under its fence, applied once, when the run finishes.

    1. ``stage`` returns when the entries are stored with the run, in order; it raises LeaseLost if another owns the
       partition by then.
    2. Nobody sees staged entries before the run has finished.
    3. A later attempt of the run starts with what was staged by its newest durable step, or with nothing.

    An entry is [kind, key, value as JSON text], see store/sessions.py.
    """

    async def stage(self, entries: list[list[str]]) -> None: ...

    async def staged(self) -> list[list[str]]:
        """What earlier attempts staged and this one goes on behind; see RunHost.steps."""
        ...


def step_checkpoint_id(run_id: str, number: int) -> str:
    """The checkpoint that a durable step is."""
    return f"{run_id}{_STEP}{number}"


def split_step_checkpoint_id(checkpoint: str) -> tuple[str, int] | None:
    """(run id, number) of the checkpoint of a durable step, None for any other text."""
    run_id, separator, number = checkpoint.rpartition(_STEP)
    return (run_id, int(number)) if separator and run_id and _NUMBER.fullmatch(number) else None
