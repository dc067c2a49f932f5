"""validate: whether an agents file loads, and its plugins too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime_core.config.schema import AppConfig
    from runtime_core.errors import RunlaneError

#: Sessions that a worker refuses. It takes the place of ``in_memory``, the default, without a word.
_IN_PROCESS_ONLY = ("sqlite", "jsonl_file")


def validate(
    file: Annotated[Path, typer.Argument(help="The agents file (YAML or JSON).")],
    as_json: Json = False,
) -> None:
    """Check an agents file: its syntax, its fields, and that every plugin in it can be imported and made.

    Example:  runlane validate agents.yaml
    """
    from producer.cli.output import Output
    from runtime_core.config.loader import load_config
    from runtime_core.errors import RunlaneError

    problems: list[RunlaneError] = []
    agents: list[str] = []
    try:
        config = load_config(file)
        agents = [agent.id for agent in config.agents]
        problems.extend(_plugin_problems(config))
        if config.session.type in _IN_PROCESS_ONLY:
            typer.echo(
                f"note: session type {config.session.type!r} is for the Runtime in one process; a worker refuses it. "
                "Remove the section for the fleet, which keeps sessions in Redis",
                err=True,
            )
    except RunlaneError as error:
        problems.append(error)
    report = {"file": str(file), "valid": not problems, "agents": agents, "problems": [p.to_dict() for p in problems]}
    Output(as_json=as_json).record(
        report, f"{file}: {len(problems)} problem(s)" if problems else f"{file}: valid, agents: {', '.join(agents)}"
    )
    if problems:
        raise CommandFailed(ExitCode.INVALID, "\n".join(f"error: {problem}" for problem in problems))


def _plugin_problems(config: AppConfig) -> Iterator[RunlaneError]:
    """Every plugin that cannot be loaded, each with its place in the file."""
    from runtime_core.errors import RunlaneError
    from runtime_core.plugins.loader import load_plugin

    for seam, reference, where in _references(config):
        try:
            load_plugin(seam, reference, where=where)
        except RunlaneError as error:
            yield error


def _references(config: AppConfig) -> Iterator[tuple[str, Any, str]]:
    """(seam, plugin reference, place) of every enabled plugin in the file."""
    if config.runtime.type != "default":  # the default runtime is the kernel itself, no plugin
        yield "runtime", config.runtime, "runtime"
    for section in ("session", "events", "skills", "diagnostics"):
        reference = getattr(config, section)
        if reference is not None:
            yield section, reference, section
    for index, agent in enumerate(config.agents):
        for seam in ("memory", "pattern", "tool_executor", "context_assembler"):
            reference = getattr(agent, seam)
            if reference is not None:
                yield seam, reference, f"agents[{index}].{seam}"
        for number, tool in enumerate(agent.tools):
            if tool.enabled:
                yield "tool", tool, f"agents[{index}].tools[{number}]"
