"""``Runtime``: runs agents inside this process. A worker of the fleet executes its runs through the same object."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from runtime_core.config.loader import load_config, load_config_dict
from runtime_core.config.schema import AgentDefinition, AppConfig
from runtime_core.contracts.context import RunScope, current_scope
from runtime_core.contracts.run import RAISING_STOP_REASONS, ErrorDetails, RunRequest, RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import AgentNotFoundError, ConfigError, LeaseLost, RunFailedError, RunlaneError
from runtime_core.events.bus import RunEvents
from runtime_core.ids import DEFAULT_TENANT, ScopedRunId, SessionKey, session_key
from runtime_core.kernel.agent_info import describe_agent
from runtime_core.kernel.agent_plugins import AgentPlugins, load_agent_plugins, preload_agent_plugins
from runtime_core.kernel.budget import effective_budget
from runtime_core.kernel.lifecycle import Lifecycle
from runtime_core.kernel.optional_methods import call_if_present
from runtime_core.kernel.outcome import failed_result, is_failure
from runtime_core.kernel.streaming import request_ids, stream_chunks
from runtime_core.kernel.threads import LiveThreads
from runtime_core.llm.clients import create_client
from runtime_core.llm.protocol import LLMClient
from runtime_core.plugins.builtin.pattern.base import STREAMING_HINT
from runtime_core.plugins.loader import load_plugin
from runtime_core.session_cache import DEFAULT_BOUND, DEFAULT_IDLE_SECONDS, SessionPluginCache
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)

#: Session types whose place a given session manager takes: the SDK's default, and the one that a worker brings along.
_REPLACED_SESSION_TYPES = frozenset({"in_memory", "redis"})
#: They are read, so that files of the openagents SDK load; whoever sets one is told.
_LLM_OPTIONS_WITHOUT_EFFECT = ("stream_endpoint", "pricing", "retry", "reasoning_model", "openai_api_style")


class WrongResultType(TypeError):
    """A runtime plugin returned something other than a RunResult."""


class Runtime:
    """Agents of one config, ready to run.

    ``session_manager`` takes the place of the config's in-memory or Redis one. With ``shared_sessions_only``, as on a
    worker, a session plugin that other processes cannot see is refused with ConfigError, and outputs must be JSON.
    """

    def __init__(
        self,
        config: AppConfig,
        *,
        session_manager: Any = None,
        config_version: int = 1,
        shared_sessions_only: bool = False,
        session_cache_size: int = DEFAULT_BOUND,
        session_idle_seconds: float = DEFAULT_IDLE_SECONDS,
    ) -> None:
        self.config = config
        self.config_version = config_version
        self._agents = {agent.id: agent for agent in config.agents}
        self._shared_sessions_only = shared_sessions_only
        self._events: Any = load_plugin("events", config.events, where="events")
        self._owns_session_manager = session_manager is None or config.session.type not in _REPLACED_SESSION_TYPES
        self._sessions: Any = self._choose_session_manager(session_manager)
        self._runtime_plugin: Any = (
            None if config.runtime.type == "default" else load_plugin("runtime", config.runtime, where="runtime")
        )
        self._llm_clients: dict[str, LLMClient] = {}
        self._threads = LiveThreads()
        self._runner: asyncio.Runner | None = None
        #: Plugins of the sessions; a worker reads its counters and evicts what leaves.
        self.plugin_cache: SessionPluginCache[AgentPlugins] = SessionPluginCache(
            close=AgentPlugins.close, bound=session_cache_size, idle_seconds=session_idle_seconds
        )
        self._warn_of_what_has_no_effect()

    @classmethod
    def from_config(cls, path: str | Path) -> Self:
        """From an agents file, YAML or JSON. Raises ConfigError."""
        return cls(load_config(path))

    @classmethod
    def from_dict(cls, payload: dict[str, Any]) -> Self:
        """From the content of an agents file. Raises ConfigError."""
        return cls(load_config_dict(payload))

    @property
    def event_bus(self) -> Any:
        return self._events

    @property
    def session_manager(self) -> Any:
        return self._sessions

    @property
    def skills_manager(self) -> Any:
        """None: skills are not in this version."""
        return None

    @property
    def diagnostics(self) -> Any:
        """None: diagnostics are not in this version."""
        return None

    async def run(self, *, agent_id: str, session_id: str, input_text: str, deps: Any = None) -> Any:
        """The final output. Raises RunFailedError if the run failed, AgentNotFoundError; other stop reasons return."""
        request = RunRequest(agent_id=agent_id, session_id=session_id, input_text=input_text, deps=deps)
        result = await self.run_detailed(request)
        if result.stop_reason in RAISING_STOP_REASONS:
            details = result.error_details or ErrorDetails(code="error.unknown", message="the run failed")
            raise RunFailedError(details.message, code=details.code, details=details, hint=details.hint)
        return result.final_output

    async def run_detailed(self, request: RunRequest) -> RunResult:
        """The result, failed ones too. Raises AgentNotFoundError, and TypeError for a runtime plugin's wrong type."""
        self._agent(request.agent_id)
        result, error = await self._execute(request, RunScope(config_version=self.config_version))
        if isinstance(error, WrongResultType):
            raise error
        return result

    async def run_stream(self, request: RunRequest) -> AsyncGenerator[RunStreamChunk, None]:
        """The run's chunks, sequence from 1 and dense; ``run.finished`` is last and alone carries the result.

        Leaving the generator cancels the run.
        """
        async with aclosing(stream_chunks(request, self.config_version, self.execute)) as chunks:
            async for chunk in chunks:
                yield chunk

    def run_sync(self, *, agent_id: str, session_id: str, input_text: str, deps: Any = None) -> Any:
        """``run`` for code without an event loop; close with ``close_sync``. Raises RuntimeError inside a loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()  # one loop for all calls: connections of plugins belong to their loop
        call = self.run(agent_id=agent_id, session_id=session_id, input_text=input_text, deps=deps)
        return self._runner.run(call)

    async def execute(self, request: RunRequest, scope: RunScope | None = None) -> RunResult:
        """Execute one attempt in ``scope``. Whatever goes wrong in the run is a failed result with error_details.

        Raises only CancelledError, when this task is cancelled, and LeaseLost.
        """
        result, _ = await self._execute(request, scope or RunScope(config_version=self.config_version))
        return result

    def has_live_code(self, run: ScopedRunId) -> bool:
        """Whether a tool thread of the run still executes; it may outlive the run, for a thread cannot be cancelled."""
        return self._threads.alive(run)

    async def code_ended(self, run: ScopedRunId) -> None:
        """Return when no tool thread of the run executes any more."""
        await self._threads.ended(run)

    def preload(self) -> list[RunlaneError]:
        """Import every agent's plugins and make its model client now rather than in its first run; what went wrong."""
        problems: list[RunlaneError] = []
        for agent in self.config.agents:
            problems.extend(preload_agent_plugins(agent))
            try:
                self._llm_client(agent)
            except RunlaneError as error:
                problems.append(error.with_context(agent_id=agent.id))
        return problems

    async def list_agents(self) -> list[dict[str, str]]:
        return [{"id": agent.id, "name": agent.name} for agent in self.config.agents]

    async def get_agent_info(self, agent_id: str) -> dict[str, Any] | None:
        """None for an unknown agent."""
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        sessions = [session for session, loaded_agent in self.plugin_cache.cached() if loaded_agent == agent_id]
        return describe_agent(agent, self.plugin_cache.peek(sessions[-1], agent_id) if sessions else None)

    def get_session_count(self) -> int:
        """Sessions that hold plugins in this process."""
        return self.plugin_cache.session_count()

    async def close_session(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Drop the session's plugins, those of an executing run after it; the next run starts with fresh ones."""
        await self.plugin_cache.evict(session_key(tenant, session_id))
        await self.release_session(session_id)

    async def release_session(self, session_id: str) -> None:
        """Release what the runtime itself holds for the session; plugins stay. Doing it twice is no error."""
        await call_if_present(self._runtime_plugin, "release_session", session_id)

    async def evict_sessions(self, predicate: Callable[[SessionKey], bool]) -> int:
        """Drop the plugins of the sessions that ``predicate`` names, as when their partition leaves."""
        return await self.plugin_cache.evict_where(lambda key: predicate(key[0]))

    async def close(self) -> None:
        """Close memories, runtime, session, events, models, in this order. A given session manager is left open."""
        await self.plugin_cache.close()
        await call_if_present(self._runtime_plugin, "close")
        if self._owns_session_manager:
            await call_if_present(self._sessions, "close")
        await call_if_present(self._events, "close")
        for client in self._llm_clients.values():
            await client.close()

    def close_sync(self) -> None:
        """``close`` for users of ``run_sync``."""
        runner, self._runner = self._runner or asyncio.Runner(), None
        with runner:
            runner.run(self.close())

    async def _execute(self, request: RunRequest, scope: RunScope) -> tuple[RunResult, BaseException | None]:
        """The result, and the exception that it describes if the run did not even get to its session."""
        ids = request_ids(request)
        events = RunEvents(self._events, ids, scope)
        token = current_scope.set(scope)
        started = time.monotonic()
        failure: BaseException | None = None
        try:
            try:
                result = await self._attempt(request, scope, events)
            except BaseException as error:
                if not is_failure(error):
                    raise
                failure, result = error, failed_result(request, error)
            result.metadata = {"agent_id": ids.agent_id, "session_id": ids.session_id, **result.metadata}
            await _announce_end(events, result, duration_ms=round((time.monotonic() - started) * 1000))
            return result, failure
        finally:
            events.close()
            current_scope.reset(token)

    async def _attempt(self, request: RunRequest, scope: RunScope, events: RunEvents) -> RunResult:
        await events.emit("run.started")
        await events.emit("run.requested", input_text=request.input_text)
        await events.emit("session.run.started", input_text=request.input_text)
        agent = self._agent(request.agent_id)
        if request.resume_from_checkpoint is not None:
            raise ConfigError(
                f"there is no checkpoint {request.resume_from_checkpoint!r}",
                hint="this version keeps none: submit the run without resume_from_checkpoint",
            )
        llm_client = self._llm_client(agent)
        prepared = _prepared(request, agent, scope)
        key = scope.session_key(request.session_id)
        async with self.plugin_cache.use(key, agent.id, lambda: load_agent_plugins(agent)) as (plugins, hit):
            await events.emit("run.validated")
            if prepared.budget is not None and prepared.budget.max_cost_usd is not None:
                reason = "this version does not know what a model costs"
                await events.emit("budget.cost_skipped", limit=prepared.budget.max_cost_usd, reason=reason)
            result = await (
                self._run_by_plugin(prepared, plugins)
                if self._runtime_plugin is not None
                else Lifecycle(
                    request=prepared,
                    agent=agent,
                    plugins=plugins,
                    llm_client=llm_client,
                    session_manager=self._sessions,
                    events=events,
                    scope=scope,
                    threads=self._threads,
                    json_only=self._shared_sessions_only,
                ).run()
            )
        result.metadata = {**result.metadata, "cache_hit": hit}
        return result

    async def _run_by_plugin(self, request: RunRequest, plugins: AgentPlugins) -> RunResult:
        result: Any = await self._runtime_plugin.run(
            request=request, app_config=self.config, agents_by_id=self._agents, agent_plugins=plugins
        )
        if not isinstance(result, RunResult):
            raise WrongResultType(
                f"the runtime plugin {type(self._runtime_plugin).__name__} must return a RunResult, "
                f"it returned a {type(result).__name__}"
            )
        return result

    def _agent(self, agent_id: str) -> AgentDefinition:
        if (agent := self._agents.get(agent_id)) is not None:
            return agent
        raise AgentNotFoundError(
            f"there is no agent {agent_id!r}",
            hint=f"{did_you_mean(agent_id, self._agents)}Available agent ids: {sorted(self._agents)}",
            agent_id=agent_id,
        )

    def _llm_client(self, agent: AgentDefinition) -> LLMClient | None:
        if agent.llm is None:
            return None
        if agent.id not in self._llm_clients:
            self._llm_clients[agent.id] = create_client(agent.llm)
        return self._llm_clients[agent.id]

    def _choose_session_manager(self, given: Any) -> Any:
        ref = self.config.session
        if not self._owns_session_manager:
            return given
        plugin = load_plugin("session", ref, where="session")
        if self._shared_sessions_only and not getattr(plugin, "shared_between_processes", False):
            raise ConfigError(
                f"the session plugin {ref.type or ref.impl!r} is not shared between processes",
                hint="remove the session section, for workers keep sessions in Redis; a plugin of your own that other "
                "processes can read says so with shared_between_processes = True",
            )
        return plugin

    def _warn_of_what_has_no_effect(self) -> None:
        sections = {
            "multi_agent": self.config.multi_agent is not None and self.config.multi_agent.enabled,
            "diagnostics": self.config.diagnostics is not None,
            "skills": self.config.skills.type != "local" or bool(self.config.skills.config),
            "logging": self.config.logging is not None and self.config.logging.auto_configure,
        }
        sections |= {
            f"agents[{agent.id!r}].llm.{option}": getattr(agent.llm, option, None) is not None
            for agent in self.config.agents
            for option in _LLM_OPTIONS_WITHOUT_EFFECT
        }
        for name in (name for name, used in sections.items() if used):
            logger.warning("%s of the agents file has no effect in this version", name)


def _prepared(request: RunRequest, agent: AgentDefinition, scope: RunScope) -> RunRequest:
    """The request as plugins see it: with the budget that applies, marked if somebody reads the run's stream."""
    hints = dict(request.context_hints)
    if scope.sink is not None and request.stream:
        hints[STREAMING_HINT] = True
    return request.model_copy(update={"budget": effective_budget(request, agent), "context_hints": hints})


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
