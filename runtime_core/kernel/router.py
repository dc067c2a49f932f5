"""``AgentRouter``: delegation from one agent to another. Each delegation is a run of its own, a child of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from runtime_core.config.schema import MultiAgentConfig
from runtime_core.contracts.context import RunContext
from runtime_core.contracts.host import Isolation, RunHost
from runtime_core.contracts.routing import DELEGATION_DEPTH_KEY, HandoffSignal, TaskInfo, TaskState
from runtime_core.contracts.run import RunBudget, RunRequest, RunResult, StopReason
from runtime_core.errors import DelegationDepthExceeded, InvalidInputError, RunNotFound
from runtime_core.ids import MAX_SESSION_ID_BYTES, derived_run_id
from runtime_core.kernel.budget import add_usage, child_budget
from runtime_core.kernel.journal import Journal, digest_of
from runtime_core.kernel.steps import Note
from runtime_core.plugins.builtin.pattern.run_notes import next_call_id

_DELEGATIONS_KEY = "delegations"

#: The session state as the run that delegates sees it, for the child that shares its session: not all of it is written.
inherited_state: ContextVar[dict[str, Any] | None] = ContextVar("runlane_inherited_state", default=None)


class AgentRouter:
    """The router of one attempt, see contracts/routing.py. A child's run id follows from where it was delegated: run,
    step, tool and ordinal; so a later attempt that comes there finds the child that is on its way, or its result.
    """

    def __init__(
        self,
        config: MultiAgentConfig,
        host: RunHost,
        journal: Journal,
        *,
        session_manager: Any,
        check_agent: Callable[[str], object],
    ) -> None:
        self._config = config
        self._host = host
        self._journal = journal
        self._sessions = session_manager
        self._check_agent = check_agent
        #: Run ids of background children → their agent.
        self._background: dict[str, str] = {}
        #: Children whose spending is in the run's usage.
        self._counted: set[str] = set()
        self._context: RunContext[Any] | None = None

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
    ) -> RunResult:
        """Raises DelegationDepthExceeded, AgentNotFoundError, InvalidInputError, BudgetExhausted, LeaseLost."""
        isolation = self._isolation(session_isolation)
        if background and isolation is Isolation.SHARED:
            raise InvalidInputError(
                "a background delegation cannot share the session of its run", hint="use isolated or forked"
            )
        request = self._request(agent_id, input_text, ctx, isolation, budget, deps)
        before = await self._fields_before(request.run_id, ctx) if isolation is Isolation.SHARED else None
        await self._journal.settle()
        await self._host.start_child(request, isolation)
        if background:
            self._background[request.run_id] = agent_id
            self._context = ctx
            return RunResult(
                run_id=request.run_id, task_id=request.run_id, metadata={"background": True, "agent_id": agent_id}
            )
        with ctx.deadlines.paused():
            result = await self._await(request) if before is None else await self._shared(request, ctx, before)
        self._count(result, ctx)
        return result

    async def transfer(
        self,
        agent_id: str,
        input_text: str,
        ctx: RunContext[Any],
        *,
        session_isolation: Isolation | str | None = None,
        budget: RunBudget | None = None,
        deps: Any = None,
    ) -> NoReturn:
        """Delegate, and end the run with the child's result. Raises HandoffSignal, and what ``delegate`` raises."""
        result = await self.delegate(
            agent_id, input_text, ctx, session_isolation=session_isolation, budget=budget, deps=deps
        )
        raise HandoffSignal(result)

    async def task_status(self, task_id: str) -> TaskInfo | None:
        """How a background delegation of this attempt stands; None for an id that is none. Its spending counts against
        the run's once it is seen to have ended.
        """
        agent_id = self._background.get(task_id)
        if agent_id is None:
            return None
        try:
            result = await self._host.child_so_far(task_id)
        except RunNotFound:
            return None
        if result is None:
            return TaskInfo(task_id=task_id, agent_id=agent_id, status=TaskState.RUNNING)
        if self._context is not None:
            self._count(result, self._context)
        if result.stop_reason is StopReason.COMPLETED:
            return TaskInfo(task_id=task_id, agent_id=agent_id, status=TaskState.COMPLETED, output=result.final_output)
        error = result.error_details.message if result.error_details else result.stop_reason.value
        return TaskInfo(task_id=task_id, agent_id=agent_id, status=TaskState.FAILED, error=error)

    async def count_ended(self) -> None:
        """The run ends: background children that have ended count, though nobody asked after them."""
        for task_id in self._background:
            await self.task_status(task_id)

    def _count(self, result: RunResult, ctx: RunContext[Any]) -> None:
        """Once per attempt: one that resumes finds the child again, and has counted it."""
        if result.run_id not in self._counted:
            self._counted.add(result.run_id)
            add_usage(ctx.usage, result.usage)

    async def _await(self, request: RunRequest) -> RunResult:
        return await self._host.child_result(request, Isolation.ISOLATED)

    async def _shared(self, request: RunRequest, ctx: RunContext[Any], before: Mapping[str, str]) -> RunResult:
        """Have the child execute within this attempt, and take over what it changed in the session state, in whichever
        attempt of this run that was.
        """
        token = inherited_state.set(ctx.state)
        try:
            result = await self._host.child_result(request, Isolation.SHARED)
        finally:
            inherited_state.reset(token)
        after = await self._sessions.get_state(ctx.session_id)
        if after is not ctx.state:
            ctx.state.update({name: value for name, value in after.items() if before.get(name) != digest_of(value)})
            for name in before.keys() - after.keys():
                ctx.state.pop(name, None)
        return result

    async def _fields_before(self, child: str, ctx: RunContext[Any]) -> Mapping[str, str]:
        """Field → digest of the stored state when the child was first begun: this run's journal keeps it."""
        key = self._journal.key("shared", child)
        note = await self._journal.recall(key, announced=False)
        if note is None:
            stored: dict[str, Any] = await self._sessions.get_state(ctx.session_id)
            note = Note(key=key, value={name: digest_of(value) for name, value in stored.items()})
            self._journal.note(note)
        return note.value

    def _isolation(self, asked: Isolation | str | None) -> Isolation:
        try:
            return Isolation(asked or self._config.default_session_isolation)
        except ValueError as error:
            raise InvalidInputError(
                f"there is no session isolation {asked!r}", hint=f"use {', '.join(Isolation)}"
            ) from error

    def _request(
        self,
        agent_id: str,
        input_text: str,
        ctx: RunContext[Any],
        isolation: Isolation,
        budget: RunBudget | None,
        deps: Any,
    ) -> RunRequest:
        parent = ctx.run_request
        depth = _depth(parent)
        if depth >= self._config.max_delegation_depth:
            raise DelegationDepthExceeded(
                f"the run lies {depth} delegations deep, as deep as it may",
                hint="raise multi_agent.max_delegation_depth of the agents file, or have the agents delegate less",
            )
        self._check_agent(agent_id)
        run_id = _child_run_id(ctx)
        return RunRequest(
            agent_id=agent_id,
            session_id=_session_id(ctx.session_id, run_id, isolation),
            input_text=input_text,
            run_id=run_id,
            parent_run_id=ctx.run_id,
            metadata={DELEGATION_DEPTH_KEY: depth + 1},
            budget=child_budget(budget or self._config.default_child_budget, parent.budget, ctx.usage),
            deps=parent.deps if deps is None else deps,
            durable=parent.durable,
            stream=parent.stream,
        )


def _depth(request: RunRequest) -> int:
    depth: Any = request.metadata.get(DELEGATION_DEPTH_KEY, 0)
    return depth if isinstance(depth, int) and depth >= 0 else 0


def _child_run_id(ctx: RunContext[Any]) -> str:
    call_id = ctx.call_id or next_call_id(ctx, "delegate")
    delegations: dict[str, int] = ctx.scratch.setdefault(_DELEGATIONS_KEY, {})
    ordinal = delegations.get(call_id, 0)
    delegations[call_id] = ordinal + 1
    return derived_run_id("child", call_id, str(ordinal))


def _session_id(parent: str, run_id: str, isolation: Isolation) -> str:
    if isolation is Isolation.SHARED:
        return parent
    if isolation is Isolation.FORKED and len(name := f"{parent}:fork:{run_id}") <= MAX_SESSION_ID_BYTES // 4:
        return name
    return f"{'fork' if isolation is Isolation.FORKED else 'child'}:{run_id}"
