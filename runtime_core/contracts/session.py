"""What a session keeps between runs, and how an attempt writes to it."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field


class SessionArtifact(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    kind: str = "generic"
    payload: Any = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class SessionWriter(Protocol):
    """How one attempt writes to its session: staged under its fence, applied once, when the run finishes.

    1. ``stage`` returns when the entries are stored with the run, in order; it raises LeaseLost if another owns the
       partition by then.
    2. Nobody sees staged entries before the run has finished.
    3. A later attempt of the run starts with nothing staged.

    An entry is [kind, key, value as JSON text], see store/sessions.py.
    """

    async def stage(self, entries: list[list[str]]) -> None: ...
