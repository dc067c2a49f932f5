"""Execution of one run: what surrounds its life in the session, whoever hosts it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from runtime_core import logs
from runtime_core.config.schema import AgentDefinition, DiagnosticsRef
from runtime_core.contracts.context import RunScope, current_call_id, current_scope
from runtime_core.contracts.frame import RunIds
from runtime_core.contracts.host import RunHost
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RunEvents
from runtime_core.ids import SessionKey
from runtime_core.kernel.agent_plugins import AgentPlugins, load_agent_plugins
from runtime_core.kernel.agent_versions import AgentVersions
from runtime_core.kernel.budget import effective_budget
from runtime_core.kernel.deps import built_deps
from runtime_core.kernel.diagnosing import RunDiagnosis
from runtime_core.kernel.journal import Journal
from runtime_core.kernel.lifecycle import Lifecycle
from runtime_core.kernel.local_host import LocalHost, LocalState
from runtime_core.kernel.outcome import as_run_result, failed_result, is_failure
from runtime_core.kernel.output_type import class_of
from runtime_core.kernel.router import AgentRouter
from runtime_core.kernel.run_span import note_end, run_span
from runtime_core.kernel.threads import LiveThreads
from runtime_core.llm.clients import LLMClients
from runtime_core.llm.traced import traced
from runtime_core.plugins.builtin.pattern.base import STREAMING_HINT
from runtime_core.session_cache import SessionPluginCache
from runtime_core.session_resources import SessionResources

logger = logging.getLogger(__name__)

#: Plugins, by session and agent, that the current task's run uses, or one that it is a child of.
_busy_plugins: ContextVar[tuple[tuple[SessionKey, str], ...]] = ContextVar("runlane_busy_plugins", default=())


class WrongResultType(TypeError):
    """A runtime plugin returned something other than a RunResult."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What the runs of a Runtime share, and how each is executed with it."""

    versions: AgentVersions
    session_manager: Any
    event_bus: Any
    #: None: the agents' own life, see Lifecycle.
    runtime_plugin: Any
    skills: Any
    diagnostics: Any
    diagnostics_ref: DiagnosticsRef
    plugin_cache: SessionPluginCache[AgentPlugins]
    #: By session; each is kept by the plugins that share it.
    resources: WeakValueDictionary[SessionKey, SessionResources]
    llm_clients: LLMClients
    threads: LiveThreads
    local: LocalState
    deps_factories: tuple[str, ...]
    #: Whether outputs leave the process.
    json_only: bool

    async def execute(self, request: RunRequest, scope: RunScope) -> tuple[RunResult, BaseException | None]:
        """The result, and the exception that it describes if the run did not even get to its session."""
        ids = RunIds.of(request)
        diagnosis = RunDiagnosis(self.diagnostics, self.diagnostics_ref, request)
        events = RunEvents(self.event_bus, ids, scope, watch=diagnosis.watch)
        token, call = current_scope.set(scope), current_call_id.set(None)  # of the tool that delegates, if one does
        started = time.monotonic()
        failure: BaseException | None = None
        try:
            known = {"run_id": ids.run_id, "session_id": ids.session_id, "attempt": scope.attempt}
            with logs.bound(**known), run_span(request, scope) as current:
                try:
                    result = await self._attempt(request, scope, events, diagnosis)
                except BaseException as error:
                    if not is_failure(error):
                        raise
                    failure = diagnosis.error = error
                    result = failed_result(request, error)
                note_end(current, result)
            result.metadata = {"agent_id": ids.agent_id, "session_id": ids.session_id, **result.metadata}
            await _announce_end(events, result, duration_ms=round((time.monotonic() - started) * 1000))
            await diagnosis.ended(result)
            return result, failure
        finally:
            events.close()
            current_call_id.reset(call)
            current_scope.reset(token)

    async def _attempt(
        self, request: RunRequest, scope: RunScope, events: RunEvents, diagnosis: RunDiagnosis
    ) -> RunResult:
        await events.emit("run.started")
        await events.emit("run.requested", input_text=request.input_text)
        await events.emit("session.run.started", input_text=request.input_text)
        agent = self.versions.agent(request.agent_id, scope.config_version)
        prepared = _prepared(request, agent, scope)
        key = scope.session_key(request.session_id)

        def fits(cached: AgentPlugins) -> bool:
            return not scope.pinned or cached.agent == agent

        async with (
            self.llm_clients.use(agent) as llm_client,
            self._plugins(key, agent, fits) as (plugins, hit),
            built_deps(request.deps, self.deps_factories) as deps,
        ):
            busy = _busy_plugins.set((*_busy_plugins.get(), (key, agent.id)))
            try:
                await events.emit("run.validated")
                result = await (
                    self._run_by_plugin(prepared, deps, plugins)
                    if self.runtime_plugin is not None
                    else Lifecycle(
                        request=prepared,
                        agent=agent,
                        plugins=plugins,
                        llm_client=traced(llm_client),
                        session_manager=self.session_manager,
                        events=events,
                        scope=scope,
                        threads=self.threads,
                        skills=self.skills,
                        diagnosis=diagnosis,
                        host=scope.host or self._local_host(request, scope),
                        deps=deps,
                        router=self._router(scope),
                        json_only=self.json_only,
                    ).run()
                )
            finally:
                _busy_plugins.reset(busy)
        result.metadata = {**result.metadata, "cache_hit": hit}
        return result

    def _plugins(
        self, session: SessionKey, agent: AgentDefinition, fits: Callable[[AgentPlugins], bool]
    ) -> AbstractAsyncContextManager[tuple[AgentPlugins, bool]]:
        """(plugins, whether they were warm). An agent that delegates to itself in its own session gets a second set."""
        build = partial(self._load_plugins, session, agent)
        if (session, agent.id) in _busy_plugins.get():
            return _made_for_one_run(build)
        return self.plugin_cache.use(session, agent.id, build, fits)

    def _load_plugins(self, session: SessionKey, agent: AgentDefinition) -> AgentPlugins:
        resources = self.resources.get(session)
        if resources is None:
            resources = self.resources[session] = SessionResources()
        return load_agent_plugins(agent, resources)

    def _local_host(self, request: RunRequest, scope: RunScope) -> LocalHost:
        async def execute(child: RunRequest) -> RunResult:
            result, _ = await self.execute(child, RunScope(tenant=scope.tenant, config_version=scope.config_version))
            return result

        return LocalHost(self.local, request, scope.session_key(request.session_id), self.session_manager, execute)

    def _router(self, scope: RunScope) -> Callable[[RunHost, Journal], AgentRouter] | None:
        multi_agent = self.versions.config.multi_agent
        if multi_agent is None or not multi_agent.enabled:
            return None

        def check_agent(agent_id: str) -> None:
            self.versions.agent(agent_id, scope.config_version)

        return partial(AgentRouter, multi_agent, session_manager=self.session_manager, check_agent=check_agent)

    async def _run_by_plugin(self, request: RunRequest, deps: Any, plugins: AgentPlugins) -> RunResult:
        request.deps = deps
        returned: Any = await self.runtime_plugin.run(
            request=request,
            app_config=self.versions.config,
            agents_by_id=self.versions.config.agents_by_id,
            agent_plugins=plugins,
        )
        if (result := as_run_result(returned)) is None:
            raise WrongResultType(
                f"the runtime plugin {type(self.runtime_plugin).__name__} must return a RunResult, "
                f"it returned a {type(returned).__name__}"
            )
        return result


@asynccontextmanager
async def _made_for_one_run(build: Callable[[], AgentPlugins]) -> AsyncGenerator[tuple[AgentPlugins, bool]]:
    plugins = build()
    try:
        yield plugins, False
    finally:
        await plugins.close()


def _prepared(request: RunRequest, agent: AgentDefinition, scope: RunScope) -> RunRequest:
    """The request as plugins see it: with the budget that applies and the class of its output, marked if somebody reads
    the run's stream.
    """
    hints = dict(request.context_hints)
    if scope.sink is not None and request.stream:
        hints[STREAMING_HINT] = True
    prepared = request if scope.owns_request else request.model_copy()
    prepared.budget = effective_budget(request, agent)
    prepared.context_hints = hints
    prepared.output_type = class_of(request.output_type)
    return prepared


async def _announce_end(events: RunEvents, result: RunResult, *, duration_ms: int) -> None:
    try:
        if result.stop_reason is StopReason.COMPLETED:
            await events.emit("run.completed", result=result.final_output)
        else:
            details = result.error_details
            await events.emit(
                "run.failed",
                error=details.message if details else result.stop_reason.value,
                error_details=details.model_dump() if details else None,
            )
        await events.emit("session.run.completed", stop_reason=result.stop_reason.value, duration_ms=duration_ms)
    except LeaseLost:
        raise
    except Exception:
        logger.exception("the end of run %s could not be announced", result.run_id)
