"""How an agent hands work to other agents: the ``agent_router`` of a RunContext."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from runtime_core.contracts.host import Isolation
from runtime_core.contracts.run import RunBudget, RunResult

if TYPE_CHECKING:
    from runtime_core.contracts.context import RunContext

#: In a request's ``metadata``: how many delegations lie above the run. Written by the router alone.
DELEGATION_DEPTH_KEY = "__runlane_delegation_depth__"


class TaskState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A background delegation. ``task_id`` is the child's run id; any end but completed is failed, with ``error``."""

    task_id: str
    agent_id: str
    status: TaskState
    output: Any = None
    error: str = ""


class HandoffSignal(BaseException):
    """Ends a run with another agent's result. Not an Exception, so that no handler of a tool's errors stops it."""

    def __init__(self, result: RunResult) -> None:
        super().__init__(f"handed off to run {result.run_id}")
        self.result = result


class AgentRouting(Protocol):
    """1. ``delegate`` returns the child's result, whatever its stop reason; with ``background`` a task_id, at once.

    2. ``transfer`` never returns: the run ends with the child's result.
    3. What a child consumes counts against its parent's budget. A later attempt of the parent finds the same children.
    """

    async def delegate(
        self,
        agent_id: str,
        input_text: str,
        ctx: RunContext[Any],
        *,
        session_isolation: Isolation | str | None = None,
        budget: RunBudget | None = None,
        deps: Any = None,
        background: bool = False,
    ) -> RunResult: ...

    async def transfer(
        self,
        agent_id: str,
        input_text: str,
        ctx: RunContext[Any],
        *,
        session_isolation: Isolation | str | None = None,
        budget: RunBudget | None = None,
        deps: Any = None,
    ) -> NoReturn: ...

    async def task_status(self, task_id: str) -> TaskInfo | None: ...
