"""Execution of one attempt: from its admission to the answer of its finish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from redis.exceptions import ResponseError

from runtime_core import logs
from runtime_core.contracts.context import RunScope
from runtime_core.contracts.frame import RunIds
from runtime_core.contracts.run import ErrorDetails, RunRequest, RunResult, StopReason
from runtime_core.errors import ExecutionError, InvalidInputError, LeaseLost, RunlaneError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.ids import split_run_id, split_session_key
from runtime_core.kernel.runtime import Runtime
from runtime_core.kernel.validation import json_output
from runtime_core.store.attempts import Admission, NumberedFrame
from workers.execution.attempts import Attempt, AttemptTable, StopCause
from workers.execution.host import FleetHost, Services
from workers.execution.measures import AttemptMeasures
from workers.execution.publisher import Publisher, until_answered
from workers.execution.staging import StagedWrites

logger = logging.getLogger(__name__)

#: Seconds that an attempt's code gets to end after it was cancelled; then the run ends without it.
_CANCEL_GRACE = 2.0


class Runner:
    """1. Whatever the attempt's code does, ``execute`` ends with the run finished in its record, unless the partition
    is handed over or its lease is lost; then it writes nothing and returns None.

    2. The attempt is in the table until its finish is answered and its code has ended.
    """

    def __init__(self, *, services: Services, runtime: Runtime, table: AttemptTable, worker: str) -> None:
        self._services = services
        self._runtime = runtime
        self._table = table
        self._worker = worker
        self._lingering: set[asyncio.Task[None]] = set()

    async def execute(self, attempt: Attempt) -> RunResult | None:
        """Execute an admitted attempt. To end it early, stop it: a cancellation would cut its finish short."""
        execution = _Execution(self._services, self._runtime, attempt, self._worker, self._execute_within)
        try:
            result = await execution.run()
            execution.measure(result)
            return result
        finally:
            if execution.code_has_ended:
                self._table.leave(attempt)
            else:
                lingering = asyncio.create_task(self._outlive(attempt, execution))
                self._lingering.add(lingering)
                lingering.add_done_callback(self._lingering.discard)

    async def _execute_within(self, attempt: Attempt) -> None:
        """Execute an attempt that was begun within another one; it ends no later than that, for the same cause."""
        self._table.enter(attempt)
        execution = asyncio.create_task(self.execute(attempt))
        try:
            await asyncio.shield(execution)
        except asyncio.CancelledError:
            outer = attempt.within
            attempt.stop((outer and outer.cause) or StopCause.CANCEL)
            await asyncio.wait({execution})
            raise

    async def _outlive(self, attempt: Attempt, execution: _Execution) -> None:
        """The run is over for its client, its code is not: the session waits for that."""
        try:
            await execution.free_when_ended()
        except LeaseLost:
            logger.info("the session of run %s went to another worker", attempt.run)
        finally:
            self._table.leave(attempt)


class _Execution:
    """One attempt while it executes."""

    def __init__(
        self,
        services: Services,
        runtime: Runtime,
        attempt: Attempt,
        worker: str,
        execute_within: Callable[[Attempt], Awaitable[None]],
    ) -> None:
        assert isinstance(attempt.answer, Admission)
        self._store = store = services.attempts
        self._runtime = runtime
        self._attempt = attempt
        self._worker = worker
        self._guard = attempt.ownership.guard
        self._request, self._unreadable = _read_request(attempt.answer)
        self._admission = admission = attempt.answer = replace(attempt.answer, request="")  # it may be long
        self._tenant = split_run_id(admission.run)[0]
        agents = (agent.id for agent in runtime.config.agents)
        self._measures = AttemptMeasures(attempt, admission, self._request.agent_id, agents)
        self._publisher = Publisher(
            store,
            admission,
            RunIds.of(self._request),
            self._guard,
            on_cancel=lambda: attempt.stop(StopCause.CANCEL),
            on_lost=lambda: attempt.stop(StopCause.LEASE_LOST),
            on_first_chunk=self._measures.first_chunk,
        )
        self._scope = RunScope(
            tenant=self._tenant,
            attempt=admission.attempt,
            config_version=admission.config_version,
            pinned=True,
            owns_request=True,
            guard=self._before_call,
            sink=self._publish,
            writer=StagedWrites(store, admission, self._guard),
            host=FleetHost(services, attempt, admission, self._publisher, execute_within),
        )
        attempt.durable = self._request.durable

    @property
    def code_has_ended(self) -> bool:
        work = self._attempt.work
        return (work is None or work.done()) and not self._runtime.has_live_code(self._admission.run)

    def measure(self, result: RunResult | None) -> None:
        if result is None:
            self._measures.cut()
        else:
            self._measures.finished(result.stop_reason)

    async def run(self) -> RunResult | None:
        """The result that was recorded; None if the run goes on elsewhere."""
        attempt = self._attempt
        attempt.work = asyncio.create_task(self._work(), name=self._admission.run)
        await self._supervise(attempt.work)
        try:
            unwritten = await self._publisher.flush()
            if attempt.cause is not None and not attempt.cause.writes_finish:
                return None
            if unwritten is None:
                result = await self._finish(self._describe(attempt.work))
            else:
                result = await self._finish(self._stamped(self._failed(StopReason.FAILED, unwritten)))
        except LeaseLost:
            logger.warning("run %s: the lease of its partition is lost, its result is dropped", self._admission.run)
            return None
        except Exception:  # the sweep finds the run and repairs it
            logger.exception("run %s: its result cannot be written", self._admission.run)
            return None
        return result

    def _insist(self) -> None:
        """Raise CancelledError again in code that goes on after its cancellation.

        asyncio.wait_for of Python 3.11, which much code uses, can lose one
        (https://github.com/python/cpython/issues/86296).
        """
        if self._attempt.cause is not None:
            raise asyncio.CancelledError

    async def _before_call(self) -> None:
        """Before code of the agent is begun, and each call of an LLM or a tool."""
        self._insist()
        await self._guard()

    async def _publish(self, event: RuntimeEvent) -> None:
        self._insist()
        await self._publisher.publish(event)

    async def _work(self) -> RunResult:
        if self._unreadable is not None:
            raise self._unreadable
        await self._before_call()  # since admit answered, the process may have been stopped and the partition taken
        logs.bind(partition=self._admission.lease.partition)
        result = await self._runtime.execute(self._request, self._scope)
        self._publisher.hold()
        return result

    async def free_when_ended(self) -> None:
        if self._attempt.work is not None:
            await asyncio.wait({self._attempt.work})
        await self._runtime.code_ended(self._admission.run)
        await until_answered(
            lambda: self._store.free_session(self._admission), self._guard, f"the end of run {self._admission.run}"
        )

    async def _supervise(self, work: asyncio.Task[RunResult]) -> None:
        """Wait for the agent's code; once it is to stop, no longer than the grace."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def settle(*_: object) -> None:
            if not over.done():
                over.set_result(None)

        work.add_done_callback(settle)
        self._attempt.on_stop = lambda: loop.call_later(_CANCEL_GRACE, settle)
        if self._attempt.cause is not None:  # it was stopped before it started
            work.cancel()
            self._attempt.on_stop()
        await over
        if not work.done():
            work.cancel()  # the first may have been lost; the run ends now, whatever its code does

    def _describe(self, work: asyncio.Task[RunResult]) -> RunResult:
        """The result to record, whatever became of the code."""
        if work.done() and not work.cancelled() and work.exception() is None:
            result = json_output(work.result())
        else:
            result = self._ended_early(work)
        try:
            result.model_dump_json()
        except PydanticSerializationError as unwritable:
            error = ExecutionError(
                f"the result cannot be written: {unwritable}", hint="use text that UTF-8 can hold: no lone surrogates"
            )
            result = self._failed(StopReason.FAILED, error)
        return self._stamped(result)

    def _stamped(self, result: RunResult) -> RunResult:
        """With the run's ids, and where and how it was executed."""
        result.run_id = self._request.run_id
        result.task_id = self._admission.run
        result.metadata |= {
            "worker": self._worker,
            "attempt": self._admission.attempt,
            "partition": self._admission.lease.partition,
            "config_version": self._admission.config_version,
        }
        return result

    def _ended_early(self, work: asyncio.Task[RunResult]) -> RunResult:
        cause = self._attempt.cause
        if cause is StopCause.CANCEL:
            return RunResult(run_id=self._request.run_id, stop_reason=StopReason.CANCELLED)
        if cause in (StopCause.SOFT_LIMIT, StopCause.HARD_LIMIT):
            which = "soft" if cause is StopCause.SOFT_LIMIT else "hard"
            error: BaseException = ExecutionError(
                f"the run reached the worker's {which} time limit",
                hint=f"raise RUNLANE_{which.upper()}_TIME_LIMIT_S, or give the run a budget.max_duration_ms below it",
            )
            return self._failed(StopReason.TIMEOUT, error)
        if work.done() and not work.cancelled():
            error = work.exception() or ExecutionError("the run ended without a result")
        else:
            error = ExecutionError("the run's code was cancelled, and not by Runlane")
        return self._failed(StopReason.FAILED, error)

    def _failed(self, status: StopReason, error: BaseException) -> RunResult:
        return RunResult(
            run_id=self._request.run_id, stop_reason=status, error_details=ErrorDetails.from_exception(error)
        )

    async def _finish(self, result: RunResult) -> RunResult:
        """Write the last frames and the result; if Redis refuses the frames for good, the run has failed."""
        frames = self._publisher.rest()
        try:
            await self._write_finish(result, frames)
        except (RunlaneError, ResponseError) as refused:
            if isinstance(refused, LeaseLost) or not frames:
                raise
            logger.exception("events of run %s cannot be written", self._admission.run)
            self._publisher.drop()
            result = self._stamped(self._failed(StopReason.FAILED, refused))
            await self._write_finish(result, [])
        return result

    async def _write_finish(self, result: RunResult, frames: list[NumberedFrame]) -> None:
        terminal, hold = self._publisher.terminal(result), not self.code_has_ended
        await until_answered(
            lambda: self._store.finish(
                self._admission, result=result, terminal=terminal, frames=frames, hold_session=hold
            ),
            self._guard,
            f"the result of run {self._admission.run}",
        )


def _read_request(admission: Admission) -> tuple[RunRequest, InvalidInputError | None]:
    """The request, or a stand-in that names run and session with the reason why the record's cannot be read."""
    try:
        request = RunRequest.model_validate_json(admission.request)
    except ValidationError as invalid:
        _, session_id = split_session_key(admission.session)
        stand_in = RunRequest(
            agent_id="unknown", session_id=session_id, input_text="", run_id=split_run_id(admission.run)[1]
        )
        error = InvalidInputError(
            f"the stored request of run {admission.run} cannot be read: {invalid.error_count()} errors, first: "
            f"{invalid.errors(include_input=False)[0]['msg']}",
            hint="submit it again; run the same release of runlane in producers and workers",
        )
        return stand_in, error
    return request, None
