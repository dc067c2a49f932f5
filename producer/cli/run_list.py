"""runs: unfinished runs and those that ended lately."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from producer.cli.calls import complete, open_client
from producer.cli.exits import CommandFailed, ExitCode
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
from producer.cli.times import span

if TYPE_CHECKING:
    from enum import StrEnum

    from producer.cli.picture import Picture
    from runtime_core.contracts.run_story import RunFilter, RunList, RunRow

    Word = TypeVar("Word", bound=StrEnum)

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def runs(
    state: Annotated[str | None, typer.Option("--state", help="queued, running or finished.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="How it ended: completed, failed, …")] = None,
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Only this agent's.")] = None,
    session: Annotated[str | None, typer.Option("--session", "-s", help="Only this session's.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only what happened lately: 30s, 15m, 2h, 1d.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    again: Watch = False,
    every: Every = DEFAULT_EVERY,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """List runs, newest first: unfinished ones, and those that finished in the last 24 hours.

    Each partition remembers its last 1,000 ends or so; of unfinished runs, 5,000 are looked at (of one --session: all).

    Examples:

      runlane runs --state running --watch

      runlane runs --status failed --since 1h --json | jq -r .run_id
    """
    from runtime_core.clock import now_ms
    from runtime_core.contracts.run import RunState, StopReason
    from runtime_core.contracts.run_story import RunFilter

    wanted_state, wanted_status = _word(RunState, "--state", state), _word(StopReason, "--status", status)
    ago_ms = None if since is None else _ago_ms(since)

    def which() -> RunFilter:
        return RunFilter(
            state=wanted_state,
            status=wanted_status,
            agent_id=agent,
            session_id=session,
            since_ms=None if ago_ms is None else max(0, now_ms() - ago_ms),
        )

    async def print_runs() -> None:
        from producer.cli.picture import look

        async with open_client(redis_url, tenant) as client:

            async def take() -> Picture:
                return picture_of(await client.runs(which(), limit=limit))

            await look(take, again=again, every=every, as_json=as_json)

    complete(print_runs())


def picture_of(found: RunList) -> Picture:
    from producer.cli.picture import Grid, Picture

    records = [
        row.record.model_dump(mode="json", exclude={"result"})
        if row.record
        else {"run_id": row.run_id, "partition": row.partition, "unreadable": row.unreadable}
        for row in found.rows
    ]
    grid = Grid(
        headings=("run", "agent", "session", "state", "attempt", "worker", "waited", "took"),
        rows=[_row(row, found.now_ms) for row in found.rows],
        empty="no runs",
    )
    more = [] if found.complete else ["there are more unfinished runs than were looked at: name a --session"]
    return Picture(
        parts=[grid, *more],
        record={"now_ms": found.now_ms, "complete": found.complete, "runs": records},
        lines=records,
    )


def _row(row: RunRow, now_ms: int) -> tuple[str, ...]:
    record = row.record
    if record is None:
        return (row.run_id, "–", "–", f"cannot be read: {row.unreadable}", "–", "–", "–", "–")
    ended, started = record.finished_ms or now_ms, record.started_ms
    return (
        record.run_id,
        record.agent_id,
        record.session_id,
        (record.status or record.state).value,
        str(record.attempt),
        record.worker or "–",
        span(max(0, (started or ended) - record.submitted_ms) / 1000),
        span(max(0, ended - started) / 1000) if started and record.state != "queued" else "–",
    )


def _word(kind: type[Word], option: str, text: str | None) -> Word | None:
    from runtime_core.suggestions import did_you_mean

    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        words = [word.value for word in kind]
        raise CommandFailed(
            ExitCode.USAGE, f"error: {option} is {text!r}\n  hint: {did_you_mean(text, words)}use {', '.join(words)}"
        ) from None


def _ago_ms(text: str) -> int:
    match = _AGO.fullmatch(text.strip())
    if match is None:
        raise CommandFailed(ExitCode.USAGE, f"error: --since is {text!r}\n  hint: use 30s, 15m, 2h or 1d")
    return round(float(match[1]) * _SECONDS[match[2]] * 1000)
