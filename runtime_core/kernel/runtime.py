"""``Runtime``: runs agents inside this process. A worker of the fleet executes its runs through the same object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

from runtime_core import logs
from runtime_core.config.loader import load_config, load_config_dict
from runtime_core.config.schema import AppConfig, DiagnosticsRef
from runtime_core.contracts.context import RunScope
from runtime_core.contracts.host import Approval, Verdict, decide
from runtime_core.contracts.run import RAISING_STOP_REASONS, ErrorDetails, RunRequest, RunResult
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import AgentNotFoundError, ConfigError, RunFailedError, RunlaneError
from runtime_core.ids import DEFAULT_TENANT, ScopedRunId, SessionKey, session_key
from runtime_core.kernel.agent_info import describe_agent
from runtime_core.kernel.agent_plugins import AgentPlugins, preload_agent_plugins
from runtime_core.kernel.agent_versions import AgentVersions
from runtime_core.kernel.execution import Execution, WrongResultType
from runtime_core.kernel.local_host import LocalState
from runtime_core.kernel.optional_methods import call_if_present
from runtime_core.kernel.streaming import stream_chunks
from runtime_core.kernel.threads import LiveThreads
from runtime_core.kernel.without_effect import warn_of_what_has_no_effect
from runtime_core.llm.clients import LLMClients
from runtime_core.plugins.loader import load_plugin
from runtime_core.session_cache import DEFAULT_BOUND, DEFAULT_IDLE_SECONDS, SessionPluginCache
from runtime_core.session_resources import SessionResources

logger = logging.getLogger(__name__)

#: Session types whose place a given session manager takes: the SDK's default, and the one that a worker brings along.
_REPLACED_SESSION_TYPES = frozenset({"in_memory", "redis"})


class Runtime:
    """Agents of one config, ready to run.

    ``session_manager`` takes the place of the config's in-memory or Redis one. With ``shared_sessions_only``, as on a
    worker, a session plugin that other processes cannot see is refused with ConfigError, and outputs must be JSON.
    ``deps_factories`` are the paths, ``module:function``, that a request may name as the factory of its deps.
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
        deps_factories: Sequence[str] = (),
    ) -> None:
        self._versions = AgentVersions(config, config_version)
        self._config_path: Path | None = None
        self._shared_sessions_only = shared_sessions_only
        self._events: Any = load_plugin("events", config.events, where="events")
        self._owns_session_manager = session_manager is None or config.session.type not in _REPLACED_SESSION_TYPES
        self._sessions: Any = self._choose_session_manager(session_manager)
        self._runtime_plugin: Any = (
            None if config.runtime.type == "default" else load_plugin("runtime", config.runtime, where="runtime")
        )
        self._skills: Any = load_plugin("skills", config.skills, where="skills")
        diagnostics = config.diagnostics or DiagnosticsRef(type="null")
        self._diagnostics: Any = load_plugin("diagnostics", diagnostics, where="diagnostics")
        self._llm_clients = LLMClients()
        self._threads = LiveThreads()
        self._local = LocalState()
        self._runner: asyncio.Runner | None = None
        #: Plugins of the sessions; a worker reads its counters and evicts what leaves.
        self.plugin_cache: SessionPluginCache[AgentPlugins] = SessionPluginCache(
            close=AgentPlugins.close, bound=session_cache_size, idle_seconds=session_idle_seconds
        )
        #: Each is kept by the plugins that share it.
        self._resources: WeakValueDictionary[SessionKey, SessionResources] = WeakValueDictionary()
        self._execution = Execution(
            versions=self._versions,
            session_manager=self._sessions,
            event_bus=self._events,
            runtime_plugin=self._runtime_plugin,
            skills=self._skills,
            diagnostics=self._diagnostics,
            diagnostics_ref=diagnostics,
            plugin_cache=self.plugin_cache,
            resources=self._resources,
            llm_clients=self._llm_clients,
            threads=self._threads,
            local=self._local,
            deps_factories=tuple(deps_factories),
            json_only=shared_sessions_only,
        )
        if (logging_config := logs.asked_for(config.logging)) is not None:
            logs.configure(logging_config)
        warn_of_what_has_no_effect(config)

    @classmethod
    def from_config(cls, path: str | Path) -> Self:
        """From an agents file, YAML or JSON. Raises ConfigError."""
        runtime = cls(load_config(path))
        runtime._config_path = Path(path)
        return runtime

    @classmethod
    def from_dict(cls, payload: dict[str, Any]) -> Self:
        """From the content of an agents file. Raises ConfigError."""
        return cls(load_config_dict(payload))

    @property
    def config(self) -> AppConfig:
        """The current one."""
        return self._versions.config

    @property
    def config_version(self) -> int:
        """Of the current config; grows with each reload."""
        return self._versions.current

    @property
    def event_bus(self) -> Any:
        return self._events

    @property
    def session_manager(self) -> Any:
        return self._sessions

    @property
    def skills_manager(self) -> Any:
        return self._skills

    @property
    def diagnostics(self) -> Any:
        return self._diagnostics

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
        self._versions.agent(request.agent_id, self.config_version)
        result, error = await self._execution.execute(request, RunScope(config_version=self.config_version))
        if isinstance(error, WrongResultType):
            raise error
        return result

    async def run_stream(self, request: RunRequest) -> AsyncGenerator[RunStreamChunk, None]:
        """The run's chunks, sequence from 1 and dense; ``run.finished`` is last and alone carries the result.

        Leaving the generator cancels the run.
        """
        async with aclosing(stream_chunks(RunRequest.of(request), self.config_version, self.execute)) as chunks:
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
        result, _ = await self._execution.execute(request, scope or RunScope(config_version=self.config_version))
        return result

    def approvals(self, run_id: str) -> list[Approval]:
        """The tool calls of a run that wait for a person."""
        return self._local.approvals(run_id)

    def approve(self, run_id: str, call_id: str, verdict: Verdict | str, *, reason: str = "") -> None:
        """Decide about a tool call that waits; the first decision counts.

        Raises RunConflict for a call that was decided before, InvalidInputError for one that does not wait.
        """
        self._local.approve(run_id, call_id, decide(verdict, reason))

    def has_live_code(self, run: ScopedRunId) -> bool:
        """Whether a tool thread of the run still executes; it may outlive the run, for a thread cannot be cancelled."""
        return self._threads.alive(run)

    async def code_ended(self, run: ScopedRunId) -> None:
        """Return when no tool thread of the run executes any more."""
        await self._threads.ended(run)

    async def reload(self) -> None:
        """Read the agents file again and go on with what it says now; what runs goes on with what it has.

        Sessions keep the plugins that they have, those of a removed agent are closed. Raises ConfigError, and nothing
        changes, if there is no file, it is wrong, one of its plugins cannot be imported, or its runtime, session or
        events section differs.
        """
        if self._config_path is None:
            raise ConfigError(
                "there is no agents file to read again", hint="make the Runtime with Runtime.from_config(path)"
            )
        config = load_config(self._config_path)
        for problem in await asyncio.to_thread(self.problems_of, config):
            raise problem
        await self.swap(config, self.config_version + 1)

    async def swap(self, config: AppConfig, version: int) -> list[str]:
        """Make ``config`` the current one; the ids of the agents that changed, came or went, sorted.

        ``problems_of`` has found none. On a worker sessions that are pinned to the version before keep it.
        """
        old_version = self.config_version
        changed, gone = self._versions.swap(config, version, keep=self._shared_sessions_only)
        warn_of_what_has_no_effect(config)
        for agent_id in gone:
            await self.plugin_cache.evict_agent(agent_id)
        for agent_id in changed:
            await call_if_present(self._runtime_plugin, "invalidate_llm_client", agent_id)
        if changed:
            await call_if_present(self._runtime_plugin, "invalidate_mcp_pools_for_agents", changed)
            await asyncio.gather(*(resources.close() for resources in list(self._resources.values())))
        await self._llm_clients.keep(self._versions.all())
        await self._events.emit("config.reloaded", old_version=old_version, new_version=version, changed_agents=changed)
        return changed

    def has_version(self, version: int) -> bool:
        return version in self._versions

    def add_version(self, config: AppConfig, version: int) -> None:
        """Load an earlier version, to which a session is pinned."""
        self._versions.add(config, version)

    async def reload_agent(self, agent_id: str) -> int:
        """Drop the agent's plugins in every session, those of an executing run after it; in how many sessions.

        Raises AgentNotFoundError.
        """
        self._versions.agent(agent_id, self.config_version)
        dropped = await self.plugin_cache.evict_agent(agent_id)
        await self._events.emit("agent.reloaded", agent_id=agent_id)
        return dropped

    def problems_of(self, config: AppConfig) -> list[RunlaneError]:
        """Why ``config`` could not become the current one, or an agent of it could not run: import every plugin and
        make every model client now rather than in a first run. Takes as long as the imports do; any thread.
        """
        try:
            self._versions.check(config)
        except ConfigError as error:
            return [error]
        problems: list[RunlaneError] = []
        for agent in config.agents:
            problems.extend(preload_agent_plugins(agent))
            try:
                self._llm_clients.prepare(agent)
            except RunlaneError as error:
                problems.append(error.with_context(agent_id=agent.id))
        return problems

    async def list_agents(self) -> list[dict[str, str]]:
        return [{"id": agent.id, "name": agent.name} for agent in self.config.agents]

    async def get_agent_info(self, agent_id: str) -> dict[str, Any] | None:
        """None for an unknown agent."""
        try:
            agent = self._versions.agent(agent_id, self.config_version)
        except AgentNotFoundError:
            return None
        sessions = [session for session, loaded_agent in self.plugin_cache.cached() if loaded_agent == agent_id]
        return describe_agent(agent, self.plugin_cache.peek(sessions[-1], agent_id) if sessions else None)

    def get_session_count(self) -> int:
        """Sessions that hold plugins in this process."""
        return self.plugin_cache.session_count()

    async def close_session(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Drop the session's plugins, those of an executing run after it; the next run starts with fresh ones."""
        await self.plugin_cache.evict(session_key(tenant, session_id))
        await self.release_session(session_id, tenant=tenant)

    async def release_session(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Release what the runtime itself holds for the session, such as connections to MCP servers; plugins stay.

        Doing it twice is no error; what a run still needs is made anew.
        """
        if (resources := self._resources.get(session_key(tenant, session_id))) is not None:
            await resources.close()
        await call_if_present(self._runtime_plugin, "release_session", session_id)

    async def evict_sessions(self, predicate: Callable[[SessionKey], bool]) -> int:
        """Drop the plugins of the sessions that ``predicate`` names, as when their partition leaves."""
        return await self.plugin_cache.evict_where(lambda key: predicate(key[0]))

    async def close(self) -> None:
        """Close memories, runtime, session, events, models, in this order. A given session manager is left open."""
        await self._local.close()
        await self.plugin_cache.close()
        await call_if_present(self._runtime_plugin, "close")
        if self._owns_session_manager:
            await call_if_present(self._sessions, "close")
        await call_if_present(self._events, "close")
        await call_if_present(self._diagnostics, "close")
        await self._llm_clients.close()

    def close_sync(self) -> None:
        """``close`` for users of ``run_sync``."""
        runner, self._runner = self._runner or asyncio.Runner(), None
        with runner:
            runner.run(self.close())

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
