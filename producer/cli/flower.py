"""flower: Celery's web monitor with the settings that a fleet needs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.options import DEFAULT_URL, RedisUrl

if TYPE_CHECKING:
    from runtime_core.config.settings import Settings

#: Options of Flower that say who may enter; each may come as a variable too (``FLOWER_…``), or from a file.
_WHO_MAY_ENTER = ("basic_auth", "auth", "conf")
_LOOPBACK = ("127.", "::1", "localhost")
_OPEN_API = "FLOWER_UNAUTHENTICATED_API"


def flower(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 5555,
    address: Annotated[str, typer.Option("--address", help="Address to serve on.")] = "127.0.0.1",
    basic_auth: Annotated[
        str | None,
        typer.Option(
            "--basic-auth",
            envvar="FLOWER_BASIC_AUTH",
            show_envvar=True,
            help="Who may enter: user:password, several with commas. As a variable it is in no list of processes.",
        ),
    ] = None,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Watch the fleet in Flower: this process turns into `celery flower`.

    Without --basic-auth Flower shows its pages to whoever reaches the address, and changes nothing: its buttons and its
    HTTP API need to know who asks. Everything that is no option of this command is passed to Flower.

    Example:  FLOWER_BASIC_AUTH=ops:secret runlane flower --port 5555 --url_prefix=flower
    """
    if find_spec("flower") is None:
        raise ModuleNotFoundError("the monitor is not installed", name="flower")
    from runtime_core.config.settings import Settings

    settings = Settings(redis_url=redis_url)
    anyone = basic_auth is None and not _says_who_may_enter(context.args)
    if anyone and not address.startswith(_LOOPBACK):
        typer.echo(
            f"warning: whoever reaches {address}:{port} sees the fleet's runs\n"
            "  hint: set FLOWER_BASIC_AUTH=user:password, or serve on --address 127.0.0.1",
            err=True,
        )
    # Secrets go by the environment, for a command line is shown to everybody on the machine.
    environment = {"RUNLANE_REDIS_URL": settings.redis_url}
    environment["RUNLANE_PARTITIONS"] = str(asyncio.run(_partitions(settings)))
    if basic_auth is not None:
        environment["FLOWER_BASIC_AUTH"] = basic_auth
    command = flower_command(address=address, port=port, read_only=anyone and _OPEN_API not in os.environ)
    sys.stdout.flush()
    os.execve(command[0], [*command, *context.args], _without_broker(os.environ) | environment)


def flower_command(*, address: str, port: int, read_only: bool) -> list[str]:
    """The command line of Flower, which holds no secret."""
    return [
        *(sys.executable, "-m", "celery", "-A", "producer.flower_app", "flower"),
        *(f"--address={address}", f"--port={port}"),
        "--tasks_columns=uuid,state,args,received,runtime,worker",
        *(["--read_only=true"] if read_only else []),
    ]


def _says_who_may_enter(arguments: Sequence[str]) -> bool:
    given = {argument.lstrip("-").partition("=")[0].replace("-", "_") for argument in arguments}
    return any(option in given or f"FLOWER_{option.upper()}" in os.environ for option in _WHO_MAY_ENTER)


def _without_broker(environment: Mapping[str, str]) -> dict[str, str]:
    """Celery lets CELERY_BROKER_URL win over an app's own settings: the queues of another Redis would be shown."""
    return {name: value for name, value in environment.items() if not name.startswith("CELERY_BROKER")}


async def _partitions(settings: Settings) -> int:
    """P of the store. Raises RunlaneError if Redis cannot be reached or the store is another one than told."""
    from producer.connection import StoreConnection

    store = StoreConnection(settings.redis_url, settings.partitions)
    try:
        return (await store.runs()).partitions
    finally:
        await store.aclose()
