"""``runlane up``: a whole fleet on this machine, for as long as the command runs."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.fleet import Fleet
from runtime_core.config.loader import load_config
from runtime_core.config.schema import AppConfig
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import connect
from runtime_core.store.meta import open_store


def serve(
    *, config: Path | None, workers: int, concurrency: int | None, port: int | None, directory: Path | None
) -> None:
    """Start Redis and workers, say how to use them, and stay until interrupted or until a worker dies."""
    # All of it inside the loop: see the demo's show().
    asyncio.run(_serve(config, workers, concurrency, port, directory))


async def _serve(
    config: Path | None, workers: int, concurrency: int | None, port: int | None, directory: Path | None
) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        agents = config or stack.enter_context(as_file(files("producer.cli.demo") / "agents.yaml"))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runlane-up-")))
        redis = stack.enter_context(EmbeddedRedis(directory=directory, port=port))
        environment = worker_environment(
            redis_url=redis.url,
            config=agents,
            concurrency=concurrency,
            extra={"RUNLANE_EXPECT_WORKERS": str(workers)},
        )
        processes = [
            WorkerProcess(f"w{number}", environment, logs / f"w{number}.log") for number in range(1, workers + 1)
        ]
        fleet = stack.enter_context(WorkerFleet(processes))
        console.print(f"Redis {redis.url}, logs in {logs}; starting {workers} worker(s) …")
        try:
            await _stay(fleet, redis.url, agents, console)
        except asyncio.CancelledError:
            console.print("stopping …")
            raise


async def _stay(fleet: WorkerFleet, redis_url: str, agents: Path, console: Console) -> None:
    redis = connect(redis_url)
    partitions = await open_store(redis)
    await redis.aclose()
    await fleet.ready(redis_url, partitions)
    async with Fleet(redis_url) as operator:  # a kept directory remembers the config of the last time
        report = await operator.reload(agents)
    if report.created:
        console.print(f"{agents} is the fleet's config version {report.version}")
    console.print(invitation(redis_url, load_config(agents)), markup=False)
    await fleet.watch()


def invitation(redis_url: str, config: AppConfig) -> str:
    """How to use the fleet that is ready: lines for another terminal."""
    agent = shlex.quote(config.agents[0].id)
    return f"""ready. In another terminal:
  export RUNLANE_REDIS_URL={redis_url}
  runlane run --agent {agent} --session s1 "hello"
Ctrl-C stops everything."""
