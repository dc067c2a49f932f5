"""Whether a turn late in a conversation costs more than an early one: time per turn, and bytes that it leaves in Redis.

A worker started by the public command, the react agent with the mock model, one session, a tool call in every turn.
CPU time is that of the worker and of Redis, from a turn's submit to its result; it says more than the clock where a
machine is shared. Bytes are what a turn adds to the session's keys, and the keys of its run, which live for 24 hours.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.run import StopReason
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import DEFAULT_TENANT, scoped_run_id, session_key
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.connection import connect
from tests.benchmarks.agents.configs import TOOL_LOOP
from tests.benchmarks.harness.figures import Ratio
from tests.benchmarks.harness.table import Case, Scale, Table

_PARTITIONS = 8
_SESSION = "long"
_KEY = session_key(DEFAULT_TENANT, _SESSION)
_PARTITION = partition_of(_KEY, _PARTITIONS)
_EARLY, _LATE = slice(10, 110), slice(-100, None)
_OF_RUN = (keys.run, keys.log, keys.payloads, keys.snapshot, keys.said, keys.steps, keys.staged)
_PARTS = ("meta", "state", "transcript", "artifacts", "checkpoints", "stepped")


def _measure(scale: Scale) -> Mapping[str, float]:
    turns = scale.count(1_000, 250)
    found: dict[str, float] = {}
    for figure, values in asyncio.run(_converse(turns)).items():
        found[f"early {figure}"], found[f"late {figure}"] = median(values[_EARLY]), median(values[_LATE])
    return found


async def _converse(turns: int) -> dict[str, list[float]]:
    """Figure → its value at each turn."""
    times, spent, added, runs = (list[float]() for _ in range(4))
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis() as server:
        folder = Path(name)
        (folder / "agents.yaml").write_text(yaml.safe_dump(TOOL_LOOP))
        environment = worker_environment(
            redis_url=server.url,
            config=folder / "agents.yaml",
            concurrency=4,
            extra={"RUNLANE_PARTITIONS": str(_PARTITIONS), "PYTHONPATH": os.getcwd()},
        )
        worker = WorkerProcess("w0", environment, folder / "log")
        with WorkerFleet([worker]) as fleet:
            await fleet.ready(server.url, _PARTITIONS)
            redis = connect(server.url)
            async with AsyncClient(server.url, partitions=_PARTITIONS) as client:
                before = 0
                for turn in range(turns):
                    began, cpu = time.perf_counter(), _cpu_ms(worker.pid, server.pid)
                    result = await client.run_detailed(
                        agent_id="agent", session_id=_SESSION, input_text=f"/tool calc {turn}+1"
                    )
                    times.append((time.perf_counter() - began) * 1000)
                    spent.append(_cpu_ms(worker.pid, server.pid) - cpu)
                    if result.stop_reason is not StopReason.COMPLETED:
                        raise SystemExit(f"turn {turn} ended as {result.stop_reason}: {result.error_details}")
                    after = await _bytes(redis, [keys.session_part(_PARTITION, _KEY, part) for part in _PARTS])
                    added.append(after - before)
                    before = after
                    run = scoped_run_id(DEFAULT_TENANT, result.run_id)
                    runs.append(await _bytes(redis, [keys.run_pointer(run), *(of(_PARTITION, run) for of in _OF_RUN)]))
            await redis.aclose()
    return {
        "ms per turn": times,
        "CPU ms per turn": spent,
        "session bytes per turn": added,
        "run bytes per turn": runs,
    }


def _cpu_ms(*processes: int) -> float:
    """What all their threads that are alive have spent."""
    tasks = [task for pid in processes for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


async def _bytes(redis: Any, names: list[str]) -> int:
    return sum([await redis.memory_usage(name, samples=0) or 0 for name in names])


_FIGURES = {
    "ms per turn": "ms",
    "CPU ms per turn": "ms",
    "session bytes per turn": "bytes",
    "run bytes per turn": "bytes",
}
TABLE = Table(
    name="conversation",
    title="conversation: a late turn of one session beside an early one",
    note="1,000 turns with a tool call each; medians of turns 10 to 110 and of the last 100. A ratio of 1 is flat.",
    units={f"{when} {figure}": unit for figure, unit in _FIGURES.items() for when in ("early", "late")},
    cases=[Case(system="Runlane", measure=_measure)],
    comparisons=[
        Ratio(
            label=figure,
            measure=f"late {figure}",
            ours="Runlane",
            peer="Runlane",
            peer_measure=f"early {figure}",
        )
        for figure in _FIGURES
    ],
    most_rounds=2,
)
