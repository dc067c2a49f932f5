"""The host of a run on the fleet (see contracts/host.py): its steps, decisions and children are in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

from runtime_core.clock import now_ms
from runtime_core.contracts.host import Approval, Decision, Isolation, Verdict
from runtime_core.contracts.run import RunRecord, RunRequest, RunResult
from runtime_core.contracts.session import step_checkpoint_id
from runtime_core.errors import QueueFull, RunConflict, RunlaneError, RunNotFound
from runtime_core.ids import ScopedRunId, scoped_run_id, split_run_id, split_session_key
from runtime_core.kernel.steps import StepError
from runtime_core.plugins.builtin.session.exclusion import sharing_session
from runtime_core.plugins.builtin.session.redis import RedisSession
from runtime_core.store.approvals import ApprovalStore
from runtime_core.store.attempts import Admission, AttemptStore
from runtime_core.store.runs import RunStore
from runtime_core.tracing import carrying
from workers.execution.attempts import Attempt, StopCause
from workers.execution.publisher import Publisher, until_answered

logger = logging.getLogger(__name__)

#: Seconds after which a waiting run looks again though nothing has woken it.
_LOOK_AGAIN = 60.0


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the hosts of one worker process share."""

    attempts: AttemptStore
    runs: RunStore
    approvals: ApprovalStore
    sessions: RedisSession
    #: Gives the current run's pool slot to another for as long as the context lasts.
    without_slot: Callable[[], AbstractContextManager[None]]


class FleetHost:
    """The host of one attempt. While its run waits it holds no slot and asks nothing: decisions and ends of children
    wake it, by a message or with the next renewal of its lease.
    """

    def __init__(
        self,
        services: Services,
        attempt: Attempt,
        admission: Admission,
        publisher: Publisher,
        execute_within: Callable[[Attempt], Awaitable[None]],
    ) -> None:
        """``execute_within`` executes an attempt that was begun within this one, until it has ended."""
        self._services = services
        self._attempt = attempt
        self._admission = admission
        self._publisher = publisher
        self._execute = execute_within
        self._guard = attempt.ownership.guard
        self._session_id = split_session_key(admission.session)[1]
        self._tenant, self._run_id = split_run_id(admission.run)
        self._waiting_for: list[str] = []

    async def steps(self, run_id: str) -> Mapping[int, str]:
        if run_id == self._run_id:
            return _numbered(self._admission.steps)
        return await self._services.sessions.load_steps(self._session_id, run_id)

    async def write_step(self, number: int, delta: str) -> None:
        """After what readers and the session are to know by then: what follows the step is done again, this is not."""
        admission = self._admission
        await self._services.sessions.stage_now(self._session_id)
        unwritten = await self._publisher.flush()
        if unwritten is not None:
            raise unwritten
        what = f"step {step_checkpoint_id(admission.run, number)}"
        if await until_answered(lambda: self._services.attempts.step(admission, str(number), delta), self._guard, what):
            self._attempt.stop(StopCause.CANCEL)

    async def checkpoints(self) -> list[str]:
        return await self._services.sessions.list_checkpoints(self._session_id)

    async def decision(self, asked: Approval, announce: Callable[[Approval], Awaitable[None]]) -> Decision:
        with self._waits(f"approval:{asked.call_id}"):
            approval = await self._ask(asked)
            if approval.decision is None:
                await announce(approval)
            while approval.decision is None:
                if approval.expires_ms is not None and now_ms() >= approval.expires_ms:
                    await self._nobody_decided(asked.call_id)
                else:
                    await self._until_woken(approval.expires_ms)
                approval = await self._ask(asked)
        await self._look()
        return approval.decision

    async def start_child(self, request: RunRequest, isolation: Isolation) -> None:
        if isolation is Isolation.SHARED:
            return
        if isolation is Isolation.FORKED and not await self._is_known(request):
            await until_answered(lambda: self._fork(request), self._guard, f"session {request.session_id}")
        carried, submit, what = carrying(request), self._services.runs.submit, f"child {request.run_id}"
        while True:
            try:
                await until_answered(lambda: submit(carried, tenant=self._tenant), self._guard, what)
                return
            except QueueFull as full:
                await asyncio.sleep((full.retry_after_ms or 1000) / 1000)
            except RunConflict:
                await self._look()  # a run that is to be cancelled takes no children: then it ends here
                if not await self._is_known(request):
                    raise
                return  # an earlier attempt submitted it, with another budget left

    async def _fork(self, request: RunRequest) -> None:
        sessions = self._services.sessions
        await sessions.delete_session(request.session_id)  # of an attempt that was cut between this and the submit
        await sessions.fork_session(self._session_id, request.session_id)

    async def child_result(self, request: RunRequest, isolation: Isolation) -> RunResult:
        if isolation is Isolation.SHARED:
            return await self._execute_within(request)
        try:
            with self._waits(f"run:{request.run_id}"):
                while True:
                    await self._look()
                    result = await self.child_so_far(request.run_id)
                    if result is not None:
                        break
                    await self._until_woken(None)
        except asyncio.CancelledError:
            if self._attempt.cause is None:  # the run's time is up, or its pattern has changed its mind
                await self._cancel_child(request.run_id)
            raise
        await self._look()
        return result

    async def child_so_far(self, run_id: str) -> RunResult | None:
        return (await self._record(run_id)).result

    async def _cancel_child(self, run_id: str) -> None:
        run = scoped_run_id(self._tenant, run_id)
        with suppress(RunNotFound):
            await until_answered(lambda: self._services.runs.cancel(run), self._guard, f"the cancel of child {run_id}")

    async def _execute_within(self, request: RunRequest) -> RunResult:
        """A child in this run's own session: it executes here, under this attempt's fence."""
        services = self._services
        admission = await until_answered(
            lambda: services.attempts.add_child(self._admission, request, tenant=self._tenant),
            self._guard,
            f"child {request.run_id}",
        )
        if admission is not None:
            child = Attempt(admission.run, self._attempt.ownership, within=self._attempt)
            child.answer = admission
            with sharing_session():
                await self._execute(child)
        result = await self.child_so_far(request.run_id)
        if result is None:
            raise RunlaneError(f"the child run {request.run_id} ended without a result", run_id=request.run_id)
        return result

    @contextmanager
    def _waits(self, what: str) -> Generator[None]:
        """The run waits for ``what``; it gives its slot back while it waits for anything."""
        self._waiting_for.append(what)
        try:
            with self._attempt.waiting() as first, self._services.without_slot() if first else nullcontext():
                yield
        finally:
            self._waiting_for.remove(what)

    async def _ask(self, asked: Approval) -> Approval:
        approval = await self._look(asked)
        assert approval is not None
        return approval

    async def _look(self, asked: Approval | None = None) -> Approval | None:
        """Say what the run waits for now, and ask. What comes after this wakes it."""
        self._attempt.woken.clear()
        waiting_for = " ".join(self._waiting_for)
        cancelled, approval = await until_answered(
            lambda: self._services.attempts.wait(self._admission, waiting_for, asked=asked),
            self._guard,
            f"what run {self._admission.run} waits for",
        )
        if cancelled:
            self._attempt.stop(StopCause.CANCEL)
        return approval

    async def _until_woken(self, deadline_ms: int | None) -> None:
        seconds = _LOOK_AGAIN if deadline_ms is None else min(_LOOK_AGAIN, max(0, deadline_ms - now_ms()) / 1000)
        try:
            async with asyncio.timeout(seconds):
                await self._attempt.woken.wait()
        except TimeoutError:
            return

    async def _nobody_decided(self, call_id: str) -> None:
        decision = Decision(verdict=Verdict.DENY, reason="nobody decided in time", decided_ms=now_ms())
        try:
            await until_answered(
                lambda: self._services.approvals.decide(self._admission.run, call_id, decision),
                self._guard,
                f"the decision about call {call_id}",
            )
        except RunConflict:
            return  # somebody did, at the last moment

    async def _is_known(self, request: RunRequest) -> bool:
        """Whether an earlier attempt submitted this child."""
        try:
            record = await self._record(request.run_id)
        except RunNotFound:
            return False
        return (record.session_id, record.agent_id) == (request.session_id, request.agent_id)

    async def _record(self, run_id: str) -> RunRecord:
        run: ScopedRunId = scoped_run_id(self._tenant, run_id)
        return await until_answered(lambda: self._services.runs.get(run), self._guard, f"the record of run {run}")


def _numbered(steps: Mapping[str, str]) -> dict[int, str]:
    try:
        return {int(number): delta for number, delta in steps.items()}
    except ValueError as error:
        raise StepError(f"a durable step has no number: {error}", hint="delete the run's steps key") from error
