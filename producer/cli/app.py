"""The commands of ``runlane``. Each imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import typer

from producer.cli import (
    agents,
    approvals,
    config,
    control,
    dead,
    doctor,
    fleet,
    flower,
    gateway,
    plugins,
    run_list,
    runs,
    sessions,
    show,
    status,
)

app = typer.Typer(
    name="runlane",
    help="Run agents on a fleet: submit runs, follow them, come back to them.\n\n"
    "Exit codes: 0 ok, 1 usage, 2 invalid config or input, 3 run not completed or fleet unwell, "
    "75 queue full: try later, 124 --timeout passed, 130 Ctrl-C.\n\n"
    "Piped output is JSON lines; a terminal gets text.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("demo", rich_help_panel="Try it")(fleet.demo)
app.command("up", rich_help_panel="Try it")(fleet.up)
app.command("run", rich_help_panel="Runs")(runs.run)
app.command("submit", rich_help_panel="Runs")(runs.submit)
app.command("stream", rich_help_panel="Runs")(runs.stream)
app.command("result", rich_help_panel="Runs")(runs.result)
app.command("cancel", rich_help_panel="Runs")(runs.cancel)
app.command("approvals", rich_help_panel="Runs")(approvals.approvals)
app.command("approve", rich_help_panel="Runs")(approvals.approve)
app.command("status", rich_help_panel="See what is going on")(status.status)
app.command("runs", rich_help_panel="See what is going on")(run_list.runs)
app.command("show", rich_help_panel="See what is going on")(show.show)
app.command("sessions", rich_help_panel="See what is going on")(sessions.sessions)
app.command("doctor", rich_help_panel="See what is going on")(doctor.doctor)
app.command(
    "worker",
    rich_help_panel="Operate",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(fleet.worker)
app.command(
    "flower",
    rich_help_panel="Operate",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(flower.flower)
app.command("gateway", rich_help_panel="Operate")(gateway.gateway)
app.command("token", rich_help_panel="Operate")(gateway.token)
app.command("drain", rich_help_panel="Operate")(control.drain)
app.add_typer(config.app, name="config", rich_help_panel="Operate")
app.command("agents", rich_help_panel="Operate")(control.agents)
app.command("reload-agent", rich_help_panel="Operate")(control.reload_agent)
app.command("close-session", rich_help_panel="Operate")(control.close_session)
app.command("release-session", rich_help_panel="Operate")(control.release_session)
app.add_typer(dead.app, name="dead", rich_help_panel="Operate")
app.command("validate", rich_help_panel="Operate")(agents.validate)
app.command("plugins", rich_help_panel="Operate")(plugins.plugins)
app.command("schema", rich_help_panel="Operate")(plugins.schema)


@app.command("version", rich_help_panel="Operate")
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed_version

    typer.echo(installed_version("runlane"))
