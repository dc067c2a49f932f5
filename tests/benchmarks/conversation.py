"""Whether a turn late in a conversation costs more than an early one: time per turn, and bytes that it leaves in Redis.

A worker started by the public command, the react agent with the mock model, one session, a tool call in every turn.
Bytes are those of the session's keys; what runs leave apart from that is theirs for 24 hours.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.run import StopReason
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import DEFAULT_TENANT, session_key
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.connection import connect

_PARTITIONS = 8
_SESSION = "long"
_PARTS = ("meta", "state", "transcript", "artifacts", "checkpoints", "stepped")


_AGENT = {
    "id": "talker",
    "name": "Talker",
    "memory": {"type": "window_buffer"},
    "pattern": {"type": "react"},
    "llm": {"provider": "mock"},
    "tools": [{"id": "calc", "type": "calc"}],
}


async def measure(turns: int) -> None:
    """Print the medians of an early and of the last hundred turns."""
    table = Table(title=f"conversation of {turns} turns: medians")
    for heading in ("figure", "turns 10-110", "last 100", "ratio"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    times, sizes = await _converse(turns)
    for figure, values in (("ms per turn", times), ("session bytes per turn", sizes)):
        early, late = median(values[10:110]), median(values[-100:])
        table.add_row(figure, f"{early:.2f}", f"{late:.2f}", f"{late / early:.2f}")
    Console().print(table)


async def _converse(turns: int) -> tuple[list[float], list[float]]:
    times: list[float] = []
    sizes: list[float] = []
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis() as server:
        folder = Path(name)
        (folder / "agents.yaml").write_text(yaml.safe_dump({"agents": [_AGENT]}))
        environment = worker_environment(
            redis_url=server.url,
            config=folder / "agents.yaml",
            concurrency=4,
            extra={"RUNLANE_PARTITIONS": str(_PARTITIONS), "PYTHONPATH": os.getcwd()},
        )
        with WorkerFleet([WorkerProcess("w0", environment, folder / "log")]) as fleet:
            await fleet.ready(server.url, _PARTITIONS)
            redis = connect(server.url)
            async with AsyncClient(server.url, partitions=_PARTITIONS) as client:
                before = 0
                for turn in range(turns):
                    began = time.perf_counter()
                    result = await client.run_detailed(
                        agent_id="talker", session_id=_SESSION, input_text=f"/tool calc {turn}+1"
                    )
                    times.append((time.perf_counter() - began) * 1000)
                    if result.stop_reason is not StopReason.COMPLETED:
                        raise SystemExit(f"turn {turn} ended as {result.stop_reason}: {result.error_details}")
                    after = await _bytes(redis)
                    sizes.append(after - before)
                    before = after
            await redis.aclose()
    return times, sizes


async def _bytes(redis: Any) -> int:
    session = session_key(DEFAULT_TENANT, _SESSION)
    partition = partition_of(session, _PARTITIONS)
    names = [keys.session_part(partition, session, part) for part in _PARTS]
    return sum([await redis.memory_usage(name, samples=0) or 0 for name in names])
