"""demo, up, worker: starting workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import DEFAULT_URL, Concurrency, Config, HealthPort, HttpHost, MetricsPort, RedisUrl


def demo(
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Worker processes.")] = 2,
    sessions: Annotated[int, typer.Option("--sessions", min=1, max=100, help="Sessions that run at once.")] = 6,
    runs: Annotated[int, typer.Option("--runs", min=1, max=100, help="Runs per session, in order.")] = 3,
) -> None:
    """See a fleet at work: an embedded Redis, two worker processes, runs of six sessions, live. Takes seconds.

    Nothing is installed or left behind; needs no network and no key.
    """
    from producer.cli.demo.show import show

    with _child_processes():
        show(workers=workers, sessions=sessions, runs=runs)


def up(
    config: Config = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, max=64, help="Worker processes.")] = 2,
    concurrency: Concurrency = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port of Redis. [a free one]")] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", help="Where Redis keeps its data. [nowhere: gone at the end]")
    ] = None,
) -> None:
    """Start an embedded Redis and workers for local development; Ctrl-C stops them.

    Without --config the demo's agents run: assistant and reader.

    Example:  runlane up --config agents.yaml --workers 2 --port 6379
    """
    from producer.cli.local import serve

    with _child_processes():
        serve(config=config, workers=workers, concurrency=concurrency, port=port, directory=directory)


def worker(
    context: typer.Context,
    config: Config = None,
    concurrency: Concurrency = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name of the worker, unique in the fleet.")] = None,
    log_level: Annotated[str, typer.Option("--loglevel", "-l", help="debug, info, warning or error.")] = "info",
    metrics_port: MetricsPort = None,
    health_port: HealthPort = None,
    http_host: HttpHost = None,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Become a worker: this process turns into `celery -A workers.app worker`.

    Everything that is no option of this command is passed to Celery. The first worker of a fleet publishes what
    --config names; later ones take the fleet's config from Redis (see runlane config).

    Example:  runlane worker --config agents.yaml --name w1 --concurrency 100 --time-limit 600
    """
    from producer.cli.processes import worker_command, worker_environment

    http = {
        "RUNLANE_METRICS_PORT": metrics_port,
        "RUNLANE_HEALTH_PORT": health_port,
        "RUNLANE_HTTP_HOST": http_host,
    }
    environment = worker_environment(
        redis_url=redis_url,
        config=config,
        concurrency=concurrency,
        extra={name: str(value) for name, value in http.items() if value is not None},
    )
    command = worker_command(name=name, log_level=log_level, extra=context.args)
    sys.stdout.flush()
    os.execve(command[0], command, environment)


@contextmanager
def _child_processes() -> Generator[None]:
    """For commands with children: SIGTERM unwinds as Ctrl-C does, so that they are stopped; their failure is ours."""
    from producer.cli.processes import WorkersFailed

    def unwind(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except WorkersFailed as error:
        raise CommandFailed(ExitCode.FAILED, f"error: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
