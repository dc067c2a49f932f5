"""How a command talks to the fleet: a client made from the deployment's settings, and a coroutine run to its end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from producer.cli.exits import CommandFailed, ExitCode

if TYPE_CHECKING:
    from producer.client import AsyncClient
    from producer.fleet import Fleet
    from producer.monitor import Monitor


def open_client(redis_url: str, tenant: str) -> AsyncClient:
    """A client with the limits of the environment (``RUNLANE_…``). Raises ConfigError for a bad variable."""
    from producer.client import AsyncClient
    from runtime_core.config.settings import Settings

    settings = Settings(redis_url=redis_url, tenant=tenant)
    return AsyncClient(
        settings.redis_url,
        tenant=settings.tenant,
        session_limit=settings.session_queue_limit,
        partition_limit=settings.partition_queue_limit,
    )


def open_fleet(redis_url: str) -> Fleet:
    """The operator's view. Raises ModuleNotFoundError if Celery is not installed, ConfigError for a bad variable."""
    from producer.fleet import Fleet
    from runtime_core.config.settings import Settings

    return Fleet(Settings(redis_url=redis_url).redis_url)


def open_monitor(redis_url: str) -> Monitor:
    """What Redis alone shows of the fleet. Raises ConfigError for a bad variable."""
    from producer.monitor import Monitor
    from runtime_core.config.settings import Settings

    settings = Settings(redis_url=redis_url)
    return Monitor(settings.redis_url, session_limit=settings.session_queue_limit)


def complete(command: Coroutine[Any, Any, None], way_back: Callable[[], str] = str) -> None:
    """Run a command's coroutine; Ctrl-C says the way back, a reader of our output that left is no error."""
    try:
        asyncio.run(command)
    except KeyboardInterrupt:
        raise CommandFailed(ExitCode.INTERRUPTED, way_back()) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
