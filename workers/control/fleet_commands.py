"""The control commands of Runlane; what each takes and answers stands in contracts/commands.py."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from celery.worker.control import control_command, inspect_command

from runtime_core.contracts.commands import FleetCommand
from runtime_core.contracts.run import ErrorDetails
from runtime_core.errors import ConfigError, RunlaneError
from runtime_core.ids import DEFAULT_TENANT, check_name, check_session_id, session_key, split_session_key
from runtime_core.store.connection import RETRYABLE
from workers.control.shutdown import begin_drain
from workers.process import WorkerProcess, current_process

logger = logging.getLogger(__name__)

Answer = dict[str, Any]
Work = Callable[..., Awaitable[Answer]]


def _on_the_loop(work: Work) -> Callable[..., Future[Answer]]:
    """The handler of a command whose ``work(process, **arguments)`` runs on the loop; see replies.py."""

    @functools.wraps(work)
    def handler(state: Any, **arguments: Any) -> Future[Answer]:
        process = current_process()
        return process.pool.submit(_answer(process, work, arguments))

    return handler


async def _answer(process: WorkerProcess, work: Work, arguments: dict[str, Any]) -> Answer:
    try:
        answer = await work(process, **arguments)
    except (RunlaneError, *RETRYABLE) as error:
        answer = {"error": str(error), "details": ErrorDetails.from_exception(error).model_dump()}
    except TypeError as error:  # arguments that the command does not take
        logger.warning("a control command was called wrongly: %s", error)
        answer = {"error": f"{error}; see `celery -A workers.app control --list`"}
    return {**answer, "worker": process.worker}


@control_command(name=FleetCommand.RELOAD, args=[("version", int)], signature="<version>", default_timeout=30.0)
@_on_the_loop
async def reload_config(process: WorkerProcess, version: int | None = None) -> Answer:
    """Go over to the fleet's current agents config. The version is what the caller knows of."""
    current = await process.configs.current()
    if version is not None and int(version) > current:
        raise ConfigError(f"there is no config version {version}", hint="see `runlane config list`")
    changed = await process.agents_config.reload(current)
    return {"ok": f"config version {current}", "version": current, "changed_agents": changed}


@inspect_command(name=FleetCommand.CHECK_CONFIG, args=[("digest", str)], signature="<digest>", default_timeout=30.0)
@_on_the_loop
async def check_config(process: WorkerProcess, digest: str) -> Answer:
    """Whether a config that is being pushed can be loaded here."""
    await process.agents_config.check(digest)
    return {"ok": "it can be loaded"}


@control_command(name=FleetCommand.RELOAD_AGENT, args=[("agent_id", str)], signature="<agent id>", default_timeout=5.0)
@_on_the_loop
async def reload_agent(process: WorkerProcess, agent_id: str) -> Answer:
    """Drop an agent's plugins in every session; the sessions go on with its current config."""
    sessions = await process.agents_config.reload_agent(agent_id)
    return {"ok": f"dropped its plugins in {sessions} sessions", "sessions": sessions}


@control_command(
    name=FleetCommand.CLOSE_SESSION, args=[("session_id", str)], signature="<session id>", default_timeout=15.0
)
@_on_the_loop
async def close_session(process: WorkerProcess, session_id: str, tenant: str = DEFAULT_TENANT) -> Answer:
    """Close a session's plugins after its executing run; its next run starts with fresh ones."""
    key = session_key(check_name("tenant", tenant), check_session_id(session_id))
    held = any(session == key for session, _ in process.runtime.plugin_cache.cached())
    await process.sessions.unpin(key)
    await process.runtime.close_session(session_id, tenant=tenant)
    return {"ok": "closed" if held else "it had no plugins here", "held": held}


@control_command(
    name=FleetCommand.RELEASE_SESSION, args=[("session_id", str)], signature="<session id>", default_timeout=5.0
)
@_on_the_loop
async def release_session(process: WorkerProcess, session_id: str, tenant: str = DEFAULT_TENANT) -> Answer:
    """Release what the runtime itself holds for a session; its plugins stay."""
    await process.runtime.release_session(check_session_id(session_id), tenant=check_name("tenant", tenant))
    return {"ok": "released"}


@control_command(name=FleetCommand.DRAIN)
def drain(state: Any, **_: Any) -> Answer:
    """Give all partitions up as their runs end, then stop."""
    process = current_process()
    executing = len(process.table.describe())
    begin_drain()
    return {"ok": f"draining, {executing} runs", "executing": executing, "worker": process.worker}


@inspect_command(name=FleetCommand.STATUS, default_timeout=2.0)
@_on_the_loop
async def status(process: WorkerProcess) -> Answer:
    """What the worker is and does now."""
    cache = process.runtime.plugin_cache
    problem = process.agents_config.problem
    return {
        **process.describe(),
        "config_problem": None if problem is None else str(problem),
        "partitions": sorted(process.keeper.held),
        "executing": process.table.describe(),
        "cache": {
            "sessions": cache.session_count(),
            "entries": len(cache),
            "hits": cache.counters.hits,
            "misses": cache.counters.misses,
            "evictions": cache.counters.evictions,
        },
    }


@inspect_command(name=FleetCommand.SESSIONS, args=[("limit", int)], signature="[limit=100]", default_timeout=2.0)
@_on_the_loop
async def sessions(process: WorkerProcess, limit: int = 100) -> Answer:
    """The sessions whose plugins are warm here, last used first."""
    agents: dict[str, list[str]] = {}
    for session, agent_id in reversed(process.runtime.plugin_cache.cached()):
        agents.setdefault(session, []).append(agent_id)
    named = [
        {"tenant": tenant, "session_id": session_id, "agents": ids}
        for (tenant, session_id), ids in ((split_session_key(key), ids) for key, ids in [*agents.items()][: int(limit)])
    ]
    return {"count": len(agents), "sessions": named}


@inspect_command(name=FleetCommand.AGENTS, args=[("agent_id", str)], signature="[agent id]", default_timeout=2.0)
@_on_the_loop
async def agents(process: WorkerProcess, agent_id: str | None = None) -> Answer:
    """The agents of the current config; of one, its plugins too."""
    info = None if agent_id is None else await process.runtime.get_agent_info(agent_id)
    return {
        "agents": await process.runtime.list_agents(),
        "agent": info,
        "config_version": process.config_version,
    }
