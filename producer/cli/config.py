"""config push, list, show, diff, rollback: the agents config of the fleet, in versions."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.answers import show_answers, shown_progress
from producer.cli.calls import complete, open_fleet
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import DEFAULT_URL, Json, RedisUrl
from producer.cli.times import moment

if TYPE_CHECKING:
    from producer.cli.output import Output
    from producer.reports import ReloadReport

app = typer.Typer(help="The agents config of the fleet: push a version, compare, roll back.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(min=1, metavar="VERSION", help="See runlane config list.")]
Author = Annotated[str | None, typer.Option("--author", help="Who pushes it. [user@host]")]
Offline = Annotated[
    bool, typer.Option("--offline", help="For a fleet without a worker: take it unchecked, workers load it at start.")
]


@app.command()
def push(
    file: Annotated[Path, typer.Argument(help="The agents file (YAML or JSON).")],
    author: Author = None,
    offline: Offline = False,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Make an agents file the fleet's config. Sessions go on with what they have, new ones get it.

    One worker loads it first; if it cannot, nothing changes (exit code 2). Then all go over to it; one that does not
    answer or cannot load it is named (exit code 3), and follows by itself when it can. Placeholders ${VAR} are expanded
    by each worker: secrets stay out of Redis. Code of plugins that a worker has imported is not imported again.

    Example:  runlane config push agents.yaml
    """

    async def push_file() -> None:
        from producer.cli.output import Output

        async with open_fleet(redis_url) as fleet:
            with shown_progress() as progress:
                report = await fleet.reload(file, author=author, offline=offline, progress=progress)
        _show(Output(as_json=as_json), report)

    complete(push_file())


@app.command()
def rollback(
    version: Version,
    author: Author = None,
    offline: Offline = False,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Push what an earlier version says, as a new version.

    Example:  runlane config rollback 3
    """

    async def push_earlier() -> None:
        from producer.cli.output import Output

        async with open_fleet(redis_url) as fleet:
            with shown_progress() as progress:
                report = await fleet.rollback(version, author=author, offline=offline, progress=progress)
        _show(Output(as_json=as_json), report)

    complete(push_earlier())


@app.command("list")
def list_versions(as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL) -> None:
    """List the versions that are kept, newest first: 50, and those that sessions still use.

    Example:  runlane config list
    """

    async def print_list() -> None:
        from producer.cli.output import Output

        async with open_fleet(redis_url) as fleet:
            versions = await fleet.configs()
        Output(as_json=as_json).table(
            ("version", "", "pushed", "by", "from"),
            [
                (str(one.version), "current" if one.current else "", moment(one.created_ms), one.author, one.source)
                for one in versions
            ],
            [one.model_dump(mode="json") for one in versions],
            empty="no config yet: a worker that is started with --config publishes it, or runlane config push",
        )

    complete(print_list())


@app.command()
def show(version: Version, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL) -> None:
    """Print a version as it was pushed.

    Example:  runlane config show 3 > agents.yaml
    """

    async def print_text() -> None:
        async with open_fleet(redis_url) as fleet:
            config = await fleet.config_text(version)
        if as_json:
            typer.echo(config.model_dump_json())
        else:
            typer.echo(config.text, nl=not config.text.endswith("\n"))

    complete(print_text())


@app.command()
def diff(
    old: Version,
    new: Annotated[int | None, typer.Argument(min=1, metavar="[VERSION]", help="[the current one]")] = None,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Compare two versions, line by line.

    Example:  runlane config diff 3 4
    """

    async def print_difference() -> None:
        async with open_fleet(redis_url) as fleet:
            later = new or await fleet.config_version()
            before, after = await fleet.config_text(old), await fleet.config_text(later)
        lines = difflib.unified_diff(
            before.text.splitlines(), after.text.splitlines(), f"version {old}", f"version {later}", lineterm=""
        )
        for line in lines:
            typer.echo(line)

    complete(print_difference())


def _show(output: Output, report: ReloadReport) -> None:
    record = {"version": report.version, "created": report.created, "changed_agents": list(report.changed_agents)}
    if not report.created:
        headline = f"version {report.version} says the same already"
    else:
        headline = f"version {report.version} is current; changed agents: {', '.join(report.changed_agents) or 'none'}"
    try:
        show_answers(output, report.fleet, record, headline)
    except CommandFailed as failed:
        hint = "  hint: they follow by themselves when they can; see `runlane status`, or `runlane config rollback`"
        raise CommandFailed(ExitCode.FAILED, f"{failed}\n{hint}" if not sys.stdout.isatty() else hint) from None
