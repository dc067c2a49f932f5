"""sessions: what the store keeps of a tenant's sessions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.calls import complete, open_client
from producer.cli.options import (
    DEFAULT_EVERY,
    DEFAULT_LIMIT,
    DEFAULT_TENANT,
    DEFAULT_URL,
    Every,
    Json,
    Limit,
    RedisUrl,
    Tenant,
    Watch,
)
from producer.cli.times import moment, span

if TYPE_CHECKING:
    from producer.cli.picture import Picture
    from runtime_core.contracts.run_story import SessionList, SessionStory


def sessions(
    session: Annotated[str | None, typer.Option("--session", "-s", help="One session, and what it keeps.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    again: Watch = False,
    every: Every = DEFAULT_EVERY,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """List sessions: those with unfinished runs first, then by their last run, newest first.

    Idle sessions are found by walking over at most 100,000 keys of the store; it says if there are more.

    Example:  runlane sessions --session s1
    """

    async def print_sessions() -> None:
        from producer.cli.picture import look

        async with open_client(redis_url, tenant) as client:

            async def take() -> Picture:
                if session is not None:
                    return picture_of_one(await client.session(session))
                return picture_of(await client.sessions(limit=limit))

            await look(take, again=again, every=every, as_json=as_json)

    complete(print_sessions())


def picture_of(found: SessionList) -> Picture:
    from producer.cli.picture import Grid, Picture
    from runtime_core.partitioning import partition_name

    records = [asdict(view) for view in found.sessions]
    grid = Grid(
        headings=("session", "unfinished", "executes", "config", "last run", "partition", "worker"),
        rows=[
            (
                view.session_id,
                f"{view.pending:,}",
                view.live_run or "–",
                str(view.config_version or "–"),
                f"cannot be read: {view.unreadable}" if view.unreadable else moment(view.last_run_ms),
                partition_name(view.partition),
                view.worker or "–",
            )
            for view in found.sessions
        ],
        empty="no sessions",
    )
    more = [] if found.complete else ["the store has more keys than were looked at: some sessions may be missing"]
    return Picture(parts=[grid, *more], record={"complete": found.complete, "sessions": records}, lines=records)


def picture_of_one(story: SessionStory) -> Picture:
    from producer.cli.picture import Picture, facts
    from runtime_core.partitioning import partition_name

    view = story.view
    kept = "–" if story.expires_in_s is None else f"for another {span(story.expires_in_s)}"
    unfinished = f"{view.pending:,}" + (f": {', '.join(story.run_ids)}" if story.run_ids else "")
    return Picture(
        parts=[
            facts(
                {
                    "session": view.session_id,
                    "partition": f"{partition_name(view.partition)}, {view.worker or 'no owner'}",
                    "executes": view.live_run or "nothing",
                    "unfinished": unfinished,
                    "last run": moment(view.last_run_ms),
                    "config": f"pinned to version {view.config_version}" if view.config_version else "not pinned",
                    "transcript": f"{story.messages:,} messages",
                    "artifacts": f"{story.artifacts:,}",
                    "state": ", ".join(story.state_fields) or "empty",
                    "kept": kept,
                }
            ),
            *(f"cannot be read: {problem}" for problem in (view.unreadable, *story.unreadable) if problem),
        ],
        record=asdict(story),
    )
