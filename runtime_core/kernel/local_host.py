"""The host of runs that execute in this process alone: steps, decisions and children live as long as it does."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtime_core.clock import now_ms
from runtime_core.contracts.host import Approval, Decision, Isolation, Verdict
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.contracts.session import step_checkpoint_id
from runtime_core.errors import ConfigError, InvalidInputError, RunConflict, RunNotFound
from runtime_core.ids import SessionKey
from runtime_core.kernel.optional_methods import optional_method
from runtime_core.plugins.builtin.session.exclusion import sharing_session
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)

#: Runs whose steps, and children whose results, are kept; the oldest go first.
_KEPT = 1000


class LocalState:
    """What the hosts of one Runtime share."""

    def __init__(self) -> None:
        self.steps: OrderedDict[tuple[SessionKey, str], dict[int, str]] = OrderedDict()
        self.children: OrderedDict[str, asyncio.Task[RunResult]] = OrderedDict()
        #: (run id, call id) → what waits for a person.
        self.waiting: dict[tuple[str, str], tuple[Approval, asyncio.Future[Decision]]] = {}
        self.decided: OrderedDict[tuple[str, str], Decision] = OrderedDict()

    def approvals(self, run_id: str) -> list[Approval]:
        """The calls of a run that wait for a person, in the order in which they asked."""
        return [approval for (run, _), (approval, _) in self.waiting.items() if run == run_id]

    def approve(self, run_id: str, call_id: str, decision: Decision) -> None:
        """Raises RunConflict for a call that was decided before, InvalidInputError for one that does not wait."""
        if (before := self.decided.get((run_id, call_id))) is not None:
            raise RunConflict(
                f"the call {call_id} was decided before: {before.verdict}", hint="the first decision counts"
            )
        waiting = self.waiting.get((run_id, call_id))
        if waiting is None or waiting[1].done():
            known = [approval.call_id for approval in self.approvals(run_id)]
            raise InvalidInputError(
                f"no call {call_id!r} of run {run_id!r} waits for a decision",
                hint=f"{did_you_mean(call_id, known)}Waiting: {', '.join(known) or 'none'}",
            )
        self.decide((run_id, call_id), decision)
        waiting[1].set_result(decision)

    def decide(self, call: tuple[str, str], decision: Decision) -> None:
        self.decided[call] = decision
        _bound(self.decided)

    async def close(self) -> None:
        """Cancel the children that are still on their way."""
        tasks = [task for task in self.children.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class LocalHost:
    """A RunHost (see contracts/host.py) for one run of a Runtime.

    Steps go to the session plugin if it keeps any (``save_step``, ``load_steps``, ``list_checkpoints``).
    """

    def __init__(
        self,
        state: LocalState,
        request: RunRequest,
        session: SessionKey,
        session_manager: Any,
        execute: Callable[[RunRequest], Awaitable[RunResult]],
    ) -> None:
        self._state = state
        self._request = request
        self._session = session
        self._sessions = session_manager
        self._execute = execute
        #: Call id → what was decided: the run asks once, however often it resumes.
        self._decided: dict[str, Decision] = {}

    async def steps(self, run_id: str) -> Mapping[int, str]:
        if (load := optional_method(self._sessions, "load_steps")) is not None:
            return await load(self._request.session_id, run_id)
        return dict(self._state.steps.get((self._session, run_id), {}))

    async def write_step(self, number: int, delta: str) -> None:
        if (save := optional_method(self._sessions, "save_step")) is not None:
            await save(self._request.session_id, self._request.run_id, number, delta)
            return
        key = (self._session, self._request.run_id)
        self._state.steps.setdefault(key, {}).setdefault(number, delta)
        self._state.steps.move_to_end(key)
        _bound(self._state.steps)

    async def checkpoints(self) -> list[str]:
        if optional_method(self._sessions, "save_step") is not None:
            return await self._sessions.list_checkpoints(self._request.session_id)
        steps = self._state.steps.items()
        return [
            step_checkpoint_id(run, number)
            for (session, run), kept in steps
            if session == self._session
            for number in kept
        ]

    async def decision(self, asked: Approval, announce: Callable[[Approval], Awaitable[None]]) -> Decision:
        key = (self._request.run_id, asked.call_id)
        if (decided := self._decided.get(asked.call_id)) is not None:
            return decided
        self._state.decided.pop(key, None)  # of an earlier run with this id
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._state.waiting[key] = (asked, future)
        wait_ms = None if asked.expires_ms is None else max(0, asked.expires_ms - now_ms())
        try:
            await announce(asked)
            async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                decision = await future
        except TimeoutError:
            decision = Decision(verdict=Verdict.DENY, reason="nobody decided in time", decided_ms=now_ms())
            self._state.decide(key, decision)
        finally:
            del self._state.waiting[key]
        self._decided[asked.call_id] = decision
        return decision

    async def start_child(self, request: RunRequest, isolation: Isolation) -> None:
        if isolation is Isolation.SHARED or request.run_id in self._state.children:
            return
        if isolation is Isolation.FORKED:
            fork = optional_method(self._sessions, "fork_session")
            if fork is None:
                raise ConfigError(
                    f"the session plugin {type(self._sessions).__name__} cannot fork a session",
                    hint="give it fork_session(source, target), or delegate with session_isolation isolated",
                )
            await fork(self._request.session_id, request.session_id)
        task = asyncio.ensure_future(self._execute(request))
        self._state.children[request.run_id] = task
        while len(self._state.children) > _KEPT and next(iter(self._state.children.values())).done():
            self._state.children.popitem(last=False)

    async def child_result(self, request: RunRequest, isolation: Isolation) -> RunResult:
        if isolation is Isolation.SHARED:
            with sharing_session():
                return await self._execute(request)
        task = self._state.children[request.run_id]
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def child_so_far(self, run_id: str) -> RunResult | None:
        task = self._state.children.get(run_id)
        if task is None:
            raise RunNotFound(f"there is no child run {run_id!r}", run_id=run_id)
        return task.result() if task.done() else None


def _bound(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > _KEPT:
        kept.popitem(last=False)
