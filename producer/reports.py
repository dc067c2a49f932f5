"""What came of a command to the fleet: an answer for each worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from runtime_core.contracts.run import ErrorDetails


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one worker said. ``values`` are the fields of its command, see contracts/commands.py."""

    worker: str
    #: A sentence for people: what it did, or why not.
    text: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: Why it could not do it.
    error: ErrorDetails | None = None
    answered: bool = True

    @property
    def ok(self) -> bool:
        return self.answered and self.error is None

    @classmethod
    def of(cls, node: str, reply: Mapping[str, Any]) -> Self:
        """Read a reply; one that has no error is ``ok``."""
        values = {name: value for name, value in reply.items() if name not in ("ok", "error", "details", "worker")}
        worker = str(reply.get("worker") or node)
        if "error" not in reply:
            return cls(worker=worker, text=str(reply.get("ok", "ok")), values=values)
        text = str(reply["error"])
        details = reply.get("details")
        error = ErrorDetails.model_validate(details) if details else ErrorDetails(code="runlane.error", message=text)
        return cls(worker=worker, text=text, error=error)

    @classmethod
    def silent(cls, worker: str, why: str) -> Self:
        return cls(worker=worker, text=f"no answer: {why}", answered=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetReport:
    """Answers by worker, of all that lived when the command was sent."""

    answers: Mapping[str, Answer]
    #: Those that have not answered yet; nobody once the report is complete.
    waiting: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        """Every worker answered, and none refused."""
        return all(answer.ok for answer in self.answers.values())

    @property
    def missing(self) -> list[str]:
        """Workers that did not answer."""
        return sorted(worker for worker, answer in self.answers.items() if not answer.answered)

    @property
    def failed(self) -> Mapping[str, ErrorDetails]:
        """Workers that answered that they cannot."""
        return {worker: answer.error for worker, answer in self.answers.items() if answer.error is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadReport:
    """What came of a push: ``version`` is current, whatever the workers answered; who is not there yet follows."""

    version: int
    #: False: that very config was current already, and no agent changed.
    created: bool
    #: Agents that were changed, added or removed, sorted, as far as a worker said.
    changed_agents: tuple[str, ...]
    fleet: FleetReport

    @property
    def ok(self) -> bool:
        """Every live worker has it."""
        return self.fleet.ok
