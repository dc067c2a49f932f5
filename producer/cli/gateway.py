"""gateway: the HTTP gateway; token: a token for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.options import DEFAULT_TENANT, DEFAULT_URL, Json, RedisUrl, Tenant

if TYPE_CHECKING:
    from runtime_core.config.settings import Settings


def gateway(
    host: Annotated[
        str, typer.Option("--host", envvar="RUNLANE_GATEWAY_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, envvar="RUNLANE_GATEWAY_PORT", help="Port to listen on; 0 takes a free one."
        ),
    ] = 8080,
    tokens: Annotated[
        Path | None,
        typer.Option(
            "--tokens",
            envvar="RUNLANE_GATEWAY_TOKENS_FILE",
            help="File of the tokens that are taken; `runlane token` makes them. [none: this machine only]",
        ),
    ] = None,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Serve runs, streams and sessions over HTTP, and a page to try them at /.

    It holds nothing: start several, behind any balancer, and stop them when you like. Limits are variables,
    RUNLANE_GATEWAY_…, see settings.py.

    Example:  runlane gateway --port 8080 --tokens tokens.yaml
    """
    from runtime_core.config.settings import Settings

    values: dict[str, Any] = {"redis_url": redis_url, "tenant": tenant, "gateway_host": host, "gateway_port": port}
    if tokens is not None:
        values["gateway_tokens_file"] = tokens
    _serve(Settings(**values))


def _serve(settings: Settings) -> None:
    import logging

    from producer.gateway.access import check_binding
    from producer.gateway.app import create_app
    from producer.gateway.server import listen, serve
    from producer.gateway.service import Gateway
    from producer.gateway.tokens import TokenTable

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    table = TokenTable(file=settings.gateway_tokens_file, inline=settings.gateway_tokens)
    check_binding(settings.gateway_host, tokens=table.configured)
    host = settings.gateway_host
    with listen(host, settings.gateway_port) as listening:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        gateway = Gateway(settings, table)
        serve(
            create_app(gateway),
            listening,
            connections=settings.gateway_connections,
            request_s=settings.gateway_request_s,
            on_started=lambda: typer.echo(address),
            on_stop=gateway.closing.set,
        )


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it; stands in logs.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            "-s",
            help="What it may do; several: runs:read, runs:write, sessions:read, sessions:write, agents:read, metrics.",
        ),
    ],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Make a token for the gateway: the secret for its user, and the entry for the gateway's file of tokens.

    The secret is shown once and kept nowhere.

    Example:  runlane token website --tenant acme -s runs:write -s runs:read
    """
    from producer.cli.output import Output
    from producer.gateway.tokens import Scope, entry_of, new_token
    from runtime_core.errors import InvalidInputError
    from runtime_core.suggestions import did_you_mean

    for scope in scopes:
        if scope not in list(Scope):
            raise InvalidInputError(
                f"there is no scope {scope!r}", hint=f"{did_you_mean(scope, Scope)}Scopes: {', '.join(Scope)}"
            )
    secret, made = new_token(name, tenant, frozenset(map(Scope, scopes)))
    entry = entry_of(made)
    Output(as_json=as_json).record(
        {"secret": secret, "entry": made.model_dump(mode="json")},
        f"{secret}\n\nfor its user, and for nobody else. Into the gateway's file of tokens goes:\n\n- {entry}",
    )
