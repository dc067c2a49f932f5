"""One run from its first event to its last.

run.requested → session.run.started → run.validated → [session] session.acquired → context compact → assemble → tool
preflight → context.created → memory inject → pattern.execute and finalize → memory writeback → memory compact →
transcript → artifacts → assembler.finalize → run.completed | run.failed → session.run.completed.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import BaseModel

from runtime_core.config.schema import AgentDefinition
from runtime_core.contracts.context import LAST_OUTPUT_KEY, RunContext, RunScope
from runtime_core.contracts.host import RunHost
from runtime_core.contracts.routing import HandoffSignal
from runtime_core.contracts.run import ErrorDetails, RunArtifact, RunRequest, RunResult, RunUsage, StopReason
from runtime_core.contracts.session import SessionArtifact
from runtime_core.deadlines import Deadlines
from runtime_core.errors import (
    LeaseLost,
    ModelRetryError,
    OutputValidationError,
    PermanentToolError,
    PluginError,
    RunlaneError,
    SessionError,
)
from runtime_core.events.bus import RunEvents
from runtime_core.foreign_errors import translating_errors
from runtime_core.kernel.agent_plugins import AgentPlugins
from runtime_core.kernel.approvals import Approvals
from runtime_core.kernel.budget import DurationExceeded
from runtime_core.kernel.diagnosing import RunDiagnosis
from runtime_core.kernel.durable import execute_durably, open_journal
from runtime_core.kernel.journal import Journal
from runtime_core.kernel.journaled_llm import JournaledClient
from runtime_core.kernel.optional_methods import optional_method
from runtime_core.kernel.outcome import as_run_result, error_of, failed_result, handed_off, is_failure
from runtime_core.kernel.output_type import class_of, instruction
from runtime_core.kernel.pattern_setup import release_pattern, set_up_pattern
from runtime_core.kernel.router import AgentRouter, inherited_state
from runtime_core.kernel.run_model import run_model
from runtime_core.kernel.skills import set_up_skills
from runtime_core.kernel.threads import LiveThreads
from runtime_core.kernel.tools import bind_tools
from runtime_core.kernel.validation import json_artifact, json_value
from runtime_core.llm.protocol import LLMClient
from runtime_core.plugins.builtin.pattern.run_notes import announce_artifacts

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Lifecycle:
    """Executes one attempt of ``request`` within its session."""

    request: RunRequest
    agent: AgentDefinition
    plugins: AgentPlugins
    llm_client: LLMClient | None
    session_manager: Any
    events: RunEvents
    scope: RunScope
    threads: LiveThreads
    host: RunHost
    diagnosis: RunDiagnosis
    #: What the request's deps are, or what the factory that they name has made.
    deps: Any = None
    skills: Any = None
    #: Makes the run's router, where agents may delegate to each other.
    router: Callable[[RunHost, Journal], AgentRouter] | None = None
    #: Whether the output leaves the process, so that it must be JSON.
    json_only: bool = False
    #: Messages of this run that are in the transcript: a run that fails at its very end must not add them again.
    _recorded: int = field(default=0, init=False)
    _deadline: asyncio.Timeout | None = field(default=None, init=False)
    _deadlines: Deadlines = field(default_factory=Deadlines, init=False)
    #: The result of the agent to which this one has handed off.
    _handed_off: RunResult | None = field(default=None, init=False)

    async def run(self) -> RunResult:
        """Raises only CancelledError, LeaseLost, and what the session manager raises when it is entered or left."""
        async with self.session_manager.session(self.request.session_id) as state:
            await self.events.emit("session.acquired")
            inherits = _inherit(state)
            before = _snapshot(state)
            usage, artifacts = RunUsage(), list[RunArtifact]()
            try:
                output = await self._within_duration(self._work(state, usage, artifacts))
                result = RunResult(run_id=self.request.run_id, final_output=output, usage=usage, artifacts=artifacts)
                if self._handed_off is not None:
                    result = handed_off(result, self._handed_off)
                await self._record(output, result.stop_reason, failed=result.stop_reason is not StopReason.COMPLETED)
                await self._save_artifacts(artifacts)
            except BaseException as error:
                if not is_failure(error):
                    raise
                result = await self._failed(error, usage, artifacts)
            finally:
                release_pattern(self.plugins.pattern)
            state.pop(LAST_OUTPUT_KEY, None)
            if state != before:
                written = await self._own_changes(state, before) if inherits and before is not None else state
                await self.session_manager.set_state(self.request.session_id, written)
            return await self._finalized(result, state)

    async def _own_changes(self, state: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """The stored state with what this run changed; what it inherited is written by the run that has."""
        stored: dict[str, Any] = await self.session_manager.get_state(self.request.session_id)
        kept = {name: value for name, value in stored.items() if name in state or name not in before}
        changed = {name: value for name, value in state.items() if name not in before or before[name] != value}
        return kept | changed

    async def _within_duration(self, work: Any) -> Any:
        budget = self.request.budget
        limit_ms = budget.max_duration_ms if budget else None
        self._deadline = deadline = asyncio.timeout(None if limit_ms is None else limit_ms / 1000)
        try:
            async with deadline:
                with self._deadlines.counting(deadline, whole_run=True):
                    return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise DurationExceeded(
                f"the run took longer than its {limit_ms} ms",
                hint="raise budget.max_duration_ms of the request or runtime.step_timeout_ms of the agent",
            ) from error

    def _time_left(self) -> float | None:
        """Seconds until the run's deadline, None without one."""
        when = self._deadline.when() if self._deadline else None
        return None if when is None else when - asyncio.get_running_loop().time()

    async def _work(self, state: dict[str, Any], usage: RunUsage, artifacts: list[RunArtifact]) -> Any:
        state.pop(LAST_OUTPUT_KEY, None)
        journal = await open_journal(self.request, self.host, self.events)
        context = await self._context(state, usage, artifacts, journal)
        self.diagnosis.context = context
        await set_up_skills(self.skills, context, self.session_manager)
        await self._preflight(context)
        await set_up_pattern(self.plugins.pattern, context)
        await self.events.emit("context.created")
        if self.request.resume_from_checkpoint is None:
            await self._memory_step("inject", context)
        try:
            output = await execute_durably(journal, context, lambda: self._execute(context), self._again(context))
        except HandoffSignal as signal:
            self._handed_off = signal.result
            output = signal.result.final_output
        if context.agent_router is not None:
            await context.agent_router.count_ended()
        await announce_artifacts(context)
        if self.json_only:
            output = json_value(output, what="the final output")
            artifacts[:] = [json_artifact(artifact) for artifact in artifacts]
        state[LAST_OUTPUT_KEY] = output
        await self._memory_step("writeback", context)
        await self._memory_step("compact", context)
        return output

    def _again(self, context: RunContext[Any]) -> Callable[[], Awaitable[None]]:
        async def again() -> None:
            await set_up_pattern(self.plugins.pattern, context)

        return again

    async def _context(
        self, state: dict[str, Any], usage: RunUsage, artifacts: list[RunArtifact], journal: Journal
    ) -> RunContext[Any]:
        transcript, session_artifacts, metadata = await self._assemble(state)
        model = run_model(
            self.llm_client, self.agent.llm, usage=usage, guard=self.scope.guard, time_left=self._time_left
        )
        context = RunContext[Any](
            agent_id=self.request.agent_id,
            session_id=self.request.session_id,
            input_text=self.request.input_text,
            run_id=self.request.run_id,
            run_request=self.request,
            event_bus=self.events,
            scope=self.scope,
            deps=self.deps,
            state=state,
            llm_client=None if model is None else JournaledClient(model, journal),
            llm_options=self.agent.llm,
            transcript=transcript,
            session_artifacts=session_artifacts,
            assembly_metadata=metadata,
            tool_executor=self.plugins.tool_executor,
            usage=usage,
            artifacts=artifacts,
            agent_router=None if self.router is None else self.router(self.host, journal),
            deadlines=self._deadlines,
            session_resources=self.plugins.session_resources,
        )
        if self._output_type is not None:
            context.system_prompt_fragments.append(instruction(self._output_type))
        approvals = Approvals(context, self.host, journal)
        tools, executor = self.plugins.tools, self.plugins.tool_executor
        context.tools.update(bind_tools(tools, executor, context, self.threads, journal, approvals))
        return context

    @property
    def _output_type(self) -> type[BaseModel] | None:
        return class_of(self.request.output_type)

    async def _assemble(
        self, state: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[SessionArtifact], dict[str, Any]]:
        """(transcript, artifacts, metadata): from the assembler, or else all that the session has."""
        assembler, session_id, manager = self.plugins.context_assembler, self.request.session_id, self.session_manager
        known = {"request": self.request, "session_state": state, "session_manager": manager}
        if (compact := optional_method(assembler, "compact")) is not None:
            await self._compact_context(compact(**known))
        await self.events.emit("context.assemble.started")
        started = time.monotonic()
        if assembler is None:
            transcript: list[dict[str, Any]] = await manager.load_messages(session_id)
            session_artifacts: list[SessionArtifact] = await manager.list_artifacts(session_id)
            metadata: dict[str, Any] = {}
        else:
            assembly = await assembler.assemble(**known)
            transcript, session_artifacts = list(assembly.transcript), list(assembly.session_artifacts)
            metadata = dict(assembly.metadata)
        await self.events.emit(
            "context.assemble.completed",
            transcript_size=len(transcript),
            artifact_count=len(session_artifacts),
            duration_ms=_since_ms(started),
        )
        return transcript, session_artifacts, metadata

    async def _compact_context(self, compact: Awaitable[None]) -> None:
        await self.events.emit("context.compact.started")
        started = time.monotonic()
        try:
            await compact
        except Exception as error:
            await self.events.emit("context.compact_failed", **_error_payload(error))
            raise
        await self.events.emit("context.compact_succeeded")
        await self.events.emit("context.compact.completed", duration_ms=_since_ms(started))

    async def _preflight(self, context: RunContext[Any]) -> None:
        for tool_id, tool in self.plugins.tools.items():
            if (check := optional_method(tool, "preflight")) is None:
                continue
            if tool_id in self.plugins.ready_tools:
                await self.events.emit("tool.preflight", tool_id=tool_id, result="cached-ok", duration_ms=0)
                continue
            started = time.monotonic()
            try:
                await check(context)
            except Exception as error:
                payload = {"tool_id": tool_id, "error": str(error), "duration_ms": _since_ms(started)}
                await self.events.emit("tool.preflight", result="error", **payload)
                raise PermanentToolError(f"the tool {tool_id!r} cannot work: {error}", tool_id=tool_id) from error
            self.plugins.ready_tools.add(tool_id)
            await self.events.emit("tool.preflight", tool_id=tool_id, result="ok", duration_ms=_since_ms(started))

    async def _memory_step(self, step: str, context: RunContext[Any]) -> None:
        """inject, writeback or compact; a failure is an event, and ends the run only if on_error is ``fail``."""
        memory = self.plugins.memory
        if (act := optional_method(memory, step)) is None:
            return
        await self.events.emit(f"memory.{step}.started")
        try:
            await act(context)
        except LeaseLost:
            raise
        except Exception as error:
            await self.events.emit(f"memory.{step}_failed", **_error_payload(error))
            if self.agent.memory.on_error == "fail":
                _fail_memory(memory, step, error)
            logger.warning("memory %s failed during %s: %s", type(memory).__name__, step, error)
            return
        await self.events.emit("memory.injected" if step == "inject" else f"memory.{step}_succeeded")
        view = {"view_size": len(context.memory_view)} if step == "inject" else {}
        await self.events.emit(f"memory.{step}.completed", **view)

    async def _execute(self, context: RunContext[Any]) -> Any:
        """Execute, finalize, and again while the output does not validate."""
        pattern, output_type = self.plugins.pattern, self._output_type
        limit = self.request.budget.max_validation_retries if self.request.budget else 3
        attempt = 0
        while True:
            with translating_errors():
                raw = await pattern.execute()
            if (finalize := optional_method(pattern, "finalize")) is None:
                return raw
            try:
                with translating_errors():
                    return await finalize(raw, output_type)
            except ModelRetryError as error:
                attempt += 1
                if limit is not None and attempt > limit:
                    raise OutputValidationError(f"{error.message} (after {limit} retries)") from error
                context.scratch["last_validation_error"] = {
                    "attempt": attempt,
                    "message": error.message,
                    "expected_schema": output_type.model_json_schema() if output_type else {},
                }
                await self.events.emit("validation.retry", attempt=attempt, error=error.message)

    async def _failed(self, error: BaseException, usage: RunUsage, artifacts: list[RunArtifact]) -> RunResult:
        self.diagnosis.error = error
        result = failed_result(self.request, error, usage, artifacts)
        try:
            await self._record(error_of(error).message, result.stop_reason, failed=True)
        except LeaseLost:
            raise
        except Exception:
            logger.exception("the failed run %s could not be written into its transcript", result.run_id)
        return result

    async def _record(self, content: Any, stop_reason: StopReason, *, failed: bool = False) -> None:
        """Add the exchange to the transcript; a failed one is marked, so that it is not taken for an answer."""
        ids = {"run_id": self.request.run_id, "agent_id": self.request.agent_id}
        mark = {"is_error": True} if failed else {}
        user = {"role": "user", "content": self.request.input_text, **ids}
        assistant = {"role": "assistant", "content": content, **ids, "stop_reason": stop_reason.value, **mark}
        try:
            for message in (user, assistant)[self._recorded :]:
                await self.session_manager.append_message(self.request.session_id, message)
                self._recorded += 1
        except RunlaneError:
            raise
        except Exception as error:
            raise SessionError(f"the transcript could not be written: {error}") from error

    async def _save_artifacts(self, artifacts: list[RunArtifact]) -> None:
        for artifact in artifacts:
            await self.session_manager.save_artifact(self.request.session_id, SessionArtifact(**artifact.model_dump()))

    async def _finalized(self, result: RunResult, state: dict[str, Any]) -> RunResult:
        """What the assembler makes of the result; its failure is logged, for the run is over."""
        if (finalize := optional_method(self.plugins.context_assembler, "finalize")) is None:
            return result
        known = {"request": self.request, "session_state": state, "session_manager": self.session_manager}
        try:
            changed: Any = await finalize(**known, result=result)
        except LeaseLost:
            raise
        except Exception:
            logger.exception("the context assembler's finalize failed after run %s", result.run_id)
            return result
        return as_run_result(changed) or result


def _inherit(state: dict[str, Any]) -> bool:
    """A run that shares its parent's session begins with the state as its parent sees it, if that is another."""
    inherited = inherited_state.get()
    inherited_state.set(None)
    if inherited is None or inherited is state:
        return False
    state.clear()
    state.update(inherited)
    return True


def _snapshot(state: dict[str, Any]) -> dict[str, Any] | None:
    """A copy to compare with; None if the state holds what cannot be copied, which then counts as changed."""
    try:
        return copy.deepcopy(state)
    except Exception:
        return None


def _error_payload(error: BaseException) -> dict[str, Any]:
    return {"error": str(error), "error_details": ErrorDetails.from_exception(error).model_dump()}


def _fail_memory(memory: Any, step: str, error: Exception) -> NoReturn:
    if isinstance(error, RunlaneError):
        raise error
    raise PluginError(f"memory {type(memory).__name__} failed during {step}: {error}") from error


def _since_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
