"""agents, reload-agent, close-session, release-session, drain: what operators tell the workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.answers import show_answers, shown_progress
from producer.cli.calls import complete, open_fleet
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import DEFAULT_TENANT, DEFAULT_URL, Json, RedisUrl, Tenant

if TYPE_CHECKING:
    from producer.fleet import Fleet, Progress
    from producer.reports import FleetReport

AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]


def agents(
    agent: Annotated[str | None, typer.Argument(metavar="[AGENT]", help="Show this one. [list all]")] = None,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """List the agents of the fleet's current config, or show the plugins of one.

    Example:  runlane agents assistant
    """

    async def print_agents() -> None:
        from producer.cli.output import Output, shown

        output = Output(as_json=as_json)
        async with open_fleet(redis_url) as fleet:
            listed = await fleet.list_agents()
            if agent is None:
                output.table(
                    ("id", "name"), [(one["id"], one["name"]) for one in listed], listed, empty="there are no agents"
                )
                return
            info = await fleet.get_agent_info(agent)
        if info is None:
            known = ", ".join(one["id"] for one in listed)
            raise CommandFailed(ExitCode.INVALID, f"error: there is no agent {agent!r}\n  hint: agents: {known}")
        output.record(info, shown(info))

    complete(print_agents())


def reload_agent(agent: AgentId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL) -> None:
    """Start an agent's sessions anew: with its current config and fresh plugins, after the runs that execute.

    Example:  runlane reload-agent assistant
    """
    _tell(redis_url, as_json, {"agent_id": agent}, lambda fleet, progress: fleet.reload_agent(agent, progress=progress))


def close_session(
    session: SessionId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL, tenant: Tenant = DEFAULT_TENANT
) -> None:
    """Close a session's plugins, after its executing run. Its next run starts with fresh ones and the current config.

    Example:  runlane close-session s1
    """
    _tell(
        redis_url,
        as_json,
        {"session_id": session, "tenant": tenant},
        lambda fleet, progress: fleet.close_session(session, tenant=tenant, progress=progress),
    )


def release_session(
    session: SessionId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL, tenant: Tenant = DEFAULT_TENANT
) -> None:
    """Release what the runtime holds for a session besides its plugins, such as connections to MCP servers.

    Example:  runlane release-session s1
    """
    _tell(
        redis_url,
        as_json,
        {"session_id": session, "tenant": tenant},
        lambda fleet, progress: fleet.release_session(session, tenant=tenant, progress=progress),
    )


def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its name, or its Celery node, as w1.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is gone.")] = True,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Have a worker hand its partitions over as its runs end, and stop. No run is cut short within its grace.

    Example:  runlane drain w1
    """

    async def begin(fleet: Fleet, progress: Progress) -> FleetReport:
        report = await fleet.drain(worker, progress=progress)
        if wait:
            await fleet.gone(report.answers.keys())
        return report

    _tell(redis_url, as_json, {"worker": worker}, begin)


def _tell(
    redis_url: str,
    as_json: bool,
    record: dict[str, Any],
    verb: Callable[[Fleet, Progress], Awaitable[FleetReport]],
) -> None:
    async def tell() -> None:
        from producer.cli.output import Output

        async with open_fleet(redis_url) as fleet:
            with shown_progress() as progress:
                report = await verb(fleet, progress)
        show_answers(Output(as_json=as_json), report, record, ", ".join(f"{k}: {v}" for k, v in record.items()))

    complete(tell())
