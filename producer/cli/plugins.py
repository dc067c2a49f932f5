"""plugins, schema: what an agents file may name, and how it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.cli.options import Json


def plugins(
    seam: Annotated[str | None, typer.Option("--seam", help="Only those of one seam, e.g. tool.")] = None,
    as_json: Json = False,
) -> None:
    """List the plugins that this installation has, by seam: builtin ones and those that installed packages offer.

    A package offers plugins in the entry point group runlane.plugins, by names such as tool.weather.

    Example:  runlane plugins --seam tool
    """
    from producer.cli.output import Output
    from runtime_core.errors import ConfigError
    from runtime_core.plugins.catalogue import offered_in_vain
    from runtime_core.plugins.catalogue import plugins as catalogue
    from runtime_core.plugins.protocols import Seam
    from runtime_core.suggestions import did_you_mean

    if seam is not None and seam not in list(Seam):
        raise ConfigError(
            f"there is no seam {seam!r}", hint=f"{did_you_mean(seam, list(Seam))}Seams: {', '.join(Seam)}"
        )
    for sentence in offered_in_vain():
        typer.echo(sentence, err=True)
    found = catalogue(None if seam is None else Seam(seam))
    names = ("seam", "type", "source", "path", "description", "distribution", "missing")
    Output(as_json=as_json).table(
        ["seam", "type", "from", "description"],
        [[one.seam, one.type, one.distribution or one.source, one.missing or one.description] for one in found],
        [{name: getattr(one, name) for name in names} for one in found],
        empty="no plugins",
    )


def schema(
    plugin: Annotated[
        str | None, typer.Option("--plugin", metavar="SEAM.TYPE", help="Of one plugin's config, e.g. tool.calc.")
    ] = None,
) -> None:
    """Print the JSON Schema of the agents file, for editors and checks.

    Example:  runlane schema > agents.schema.json
    """
    import json

    from runtime_core.plugins.config_schema import agents_file_schema, plugin_schema

    typer.echo(json.dumps(agents_file_schema() if plugin is None else plugin_schema(plugin), indent=2))
