"""dead list, dead show, dead redrive: runs that were given up on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.calls import complete, open_client
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import DEFAULT_TENANT, DEFAULT_URL, Json, RedisUrl, RunId, Tenant
from producer.cli.times import moment

if TYPE_CHECKING:
    from producer.cli.output import Output
    from producer.client import AsyncClient
    from runtime_core.contracts.dead_letter import DeadLetter
    from runtime_core.store.dead_letters import DeadLetterEntry

app = typer.Typer(
    help="Runs that were given up on: what happened to them, and how to submit them again.", no_args_is_help=True
)


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, the newest first.")] = 100,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """List the dead letters, newest first. They are kept for 30 days.

    Example:  runlane dead list | jq -r .run_id
    """

    async def print_list() -> None:
        from producer.cli.output import Output

        async with open_client(redis_url, tenant) as client:
            entries = await client.dead_letters(limit=limit)
        output = Output(as_json=as_json)
        output.table(
            ("run", "session", "given up on"),
            [(entry.run_id, entry.session_id, moment(entry.since_ms)) for entry in entries],
            [_entry(entry) for entry in entries],
            empty="no dead letters",
        )

    complete(print_list())


@app.command()
def show(
    run_id: RunId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL, tenant: Tenant = DEFAULT_TENANT
) -> None:
    """Show one dead letter: its record, its request, and why each of its attempts ended early.

    Example:  runlane dead show 4f0c… --json | jq .history
    """

    async def print_letter() -> None:
        from producer.cli.output import Output

        async with open_client(redis_url, tenant) as client:
            letter = await client.dead_letter(run_id)
        output = Output(as_json=as_json)
        if output.as_json:
            output.record(letter, "")
            return
        output.record(letter, _facts(letter))
        output.table(
            ("attempt", "worker", "started", "ended", "counted as", "why"),
            [
                (
                    str(one.attempt),
                    one.worker,
                    moment(one.started_ms),
                    moment(one.ended_ms),
                    f"{one.count}, charged" if one.probation else one.count,
                    one.reason,
                )
                for one in letter.history
            ],
            [],
            empty="its history is empty",
        )

    complete(print_letter())


@app.command()
def redrive(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN_ID", help="The dead letter.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every dead letter not redriven yet, oldest first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Submit a dead letter again, as a new run of the same session, and print that run's id.

    A repeat finds the run of the first time. Find out why it died first: see runlane dead show.

    Examples:

      runlane dead redrive 4f0c…

      runlane dead redrive --all --yes
    """
    if everything == (run_id is not None):
        raise CommandFailed(ExitCode.USAGE, "error: which dead letters?\n  hint: name one RUN_ID, or give --all")

    async def submit_again() -> None:
        from producer.cli.output import Output

        output = Output(as_json=as_json)
        async with open_client(redis_url, tenant) as client:
            if run_id is not None:
                await _redrive(client, run_id, output)
                return
            waiting = await _not_redriven(client)
            if waiting and not yes:
                _confirm(len(waiting))
            await _redrive_all(client, waiting, output)

    complete(submit_again())


async def _redrive(client: AsyncClient, run_id: str, output: Output) -> None:
    again = await client.redrive(run_id)
    output.record({"run_id": again.run_id, "redrive_of": run_id, "created": again.created}, again.run_id)


async def _redrive_all(client: AsyncClient, run_ids: Sequence[str], output: Output) -> None:
    from runtime_core.errors import RunlaneError

    problems: list[str] = []
    for run_id in run_ids:
        try:
            await _redrive(client, run_id, output)
        except RunlaneError as error:
            problems.append(f"error: {run_id} was not redriven: {error}")
    if problems:
        raise CommandFailed(ExitCode.FAILED, "\n".join(problems))


async def _not_redriven(client: AsyncClient) -> list[str]:
    """Oldest first. One that was redriven is left out for good, also when its new run's record has expired."""
    from runtime_core.errors import InvalidInputError, RunNotFound

    found: list[str] = []
    for entry in reversed(await client.dead_letters(limit=None)):
        try:
            letter = await client.dead_letter(entry.run_id)
        except (RunNotFound, InvalidInputError):  # its record has expired, or its id was used again since
            continue
        if letter.redriven_as is None:
            found.append(entry.run_id)
    return found


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed(
            ExitCode.USAGE, f"error: this would redrive {count} dead letter(s)\n  hint: add --yes if you mean it"
        )
    if not typer.confirm(f"Redrive {count} dead letter(s)?", err=True):
        raise CommandFailed(ExitCode.USAGE, "nothing was redriven")


def _entry(entry: DeadLetterEntry) -> dict[str, str | int]:
    return {
        "run_id": entry.run_id,
        "session_id": entry.session_id,
        "partition": entry.partition,
        "since_ms": entry.since_ms,
    }


def _facts(letter: DeadLetter) -> str:
    record, details = letter.record, letter.record.result and letter.record.result.error_details
    facts = {
        "run": record.run_id,
        "session": record.session_id,
        "agent": record.agent_id,
        "partition": str(record.partition),
        "attempts": str(record.attempt),
        "crashes": f"{record.crashes}, of these charged in probation {record.charges}",
        "interruptions": str(record.interruptions),
        "handovers": str(record.handovers),
        "spared": f"{record.spared} (its worker died of another run)",
        "submitted": moment(record.submitted_ms),
        "given up on": moment(record.finished_ms),
        "why": details.message if details else "",
        "input": letter.request.input_text if letter.request else "(the request cannot be read)",
        "redriven as": letter.redriven_as or "not yet: runlane dead redrive " + record.run_id,
    }
    width = max(map(len, facts)) + 2
    lines = (name.ljust(width) + value.replace("\n", "\n" + " " * width) for name, value in facts.items())
    return "\n".join(lines)
