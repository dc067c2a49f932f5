"""What the host of a run offers an attempt besides events and session: durable steps, decisions, child runs.

In process the Runtime is the host; on a worker it is the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from runtime_core.clock import now_ms
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.errors import InvalidInputError


class Verdict(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Decision(BaseModel):
    """What a person said of one tool call."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: str = ""
    #: Milliseconds since the epoch.
    decided_ms: int


def decide(verdict: Verdict | str, reason: str = "") -> Decision:
    """A decision that is made now. Raises InvalidInputError for a verdict that is none."""
    try:
        return Decision(verdict=Verdict(verdict), reason=reason, decided_ms=now_ms())
    except ValueError as error:
        raise InvalidInputError(f"{verdict!r} is no decision", hint=f"use {' or '.join(Verdict)}") from error


class Approval(BaseModel):
    """A tool call that waits for a person, or waited. Times are milliseconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    call_id: str
    tool_id: str
    params: dict[str, Any] = Field(default_factory=dict)
    asked_ms: int
    #: Who has not decided by then has denied. None waits for ever.
    expires_ms: int | None = None
    decision: Decision | None = None


class Isolation(StrEnum):
    """What a child run shares with its parent's session."""

    #: The session itself: the child executes within its parent's attempt.
    SHARED = "shared"
    #: Nothing: a new session.
    ISOLATED = "isolated"
    #: Its past: a new session that begins as a copy.
    FORKED = "forked"


class RunHost(Protocol):
    """1. ``write_step`` returns when the step is kept; a number that was written keeps what it holds.

    2. Everything that waits may outlast the process: the next attempt asks again and finds the same answer.
    3. Each raises LeaseLost when the attempt may go on no longer.
    """

    async def steps(self, run_id: str) -> Mapping[int, str]:
        """The steps that a run of this session has taken, number → delta; empty if nothing is known of it."""
        ...

    async def write_step(self, number: int, delta: str) -> None: ...

    async def checkpoints(self) -> list[str]:
        """Ids of the steps from which a run of this session may resume, ``<run id>:step:<number>``."""
        ...

    async def decision(self, asked: Approval, announce: Callable[[Approval], Awaitable[None]]) -> Decision:
        """Wait for a person, or until the approval expires: then it is denied.

        ``announce`` is called with what was first asked, as soon as it may be decided; not if it has been.
        """
        ...

    async def start_child(self, request: RunRequest, isolation: Isolation) -> None:
        """Have a child run accepted. The same run id again is the same child. A shared one is only prepared."""
        ...

    async def child_result(self, request: RunRequest, isolation: Isolation) -> RunResult:
        """Wait until a child that was started has finished; a shared one executes meanwhile, here."""
        ...

    async def child_so_far(self, run_id: str) -> RunResult | None:
        """The result of a child that has finished, None while it has not. Raises RunNotFound."""
        ...
