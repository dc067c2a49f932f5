"""What the oracle knows of an accepted run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from runtime_core.contracts.routing import DELEGATION_DEPTH_KEY
from runtime_core.contracts.run import RunRequest
from runtime_core.ids import ScopedRunId
from tests.simulator.agent import KEEPING


@dataclass(kw_only=True, eq=False)
class Run:
    id: ScopedRunId
    session: str
    partition: int
    request: RunRequest
    submitted: float
    state: str = "queued"
    attempt: int = 0
    status: str | None = None
    result: str | None = None
    #: When each attempt was admitted.
    starts: list[float] = field(default_factory=list[float])
    finished: float | None = None
    #: When a cancel was answered, and what with.
    cancelled: tuple[float, str] | None = None
    #: The run in whose attempt this one executes, and which attempt that is.
    within: str | None = None
    of_attempt: int = 0
    #: Steps of its agent that its durable steps hold.
    written: set[int] = field(default_factory=set[int])

    @property
    def steps(self) -> int:
        """How many its agent is to take."""
        return int(self.request.input_text.split()[0])

    @property
    def verb(self) -> str:
        return (self.request.input_text.split(maxsplit=3)[2:] or [""])[0]

    @property
    def delegated(self) -> bool:
        """Whether another run's agent submitted it."""
        return DELEGATION_DEPTH_KEY in self.request.metadata

    @property
    def keeps(self) -> bool:
        """Whether a later attempt goes on behind what an earlier one has kept."""
        return self.verb in KEEPING


def steps_of_note(delta: str) -> set[int]:
    """The agent's steps that a durable step holds."""
    notes = json.loads(delta)["notes"]
    return {int(note["value"].split()[1]) for note in notes if note["key"].startswith("tool:note:")}
