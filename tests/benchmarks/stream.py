"""How long until a run's first chunk is here, and how long each chunk takes, beside redis-py's own pub/sub.

Ours: a worker started by the public command, whose agent speaks; AsyncClient.submit and stream in this process.
Raw: a process that publishes the same bytes, subscribed to in this process. Both in turns, on the same Redis.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import yaml
from rich.console import Console
from rich.table import Table

from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.embedded import EmbeddedRedis
from tests.benchmarks.agents.talk import latencies_ms
from tests.benchmarks.raw import RawPubSub

#: Runs per round of which the first chunk is waited for, one after the other.
_FIRSTS = 50
_PARTITIONS = 8
_AGENT = {
    "id": "talker",
    "name": "Talker",
    "memory": {"type": "buffer"},
    "pattern": {"impl": "tests.benchmarks.agents.talk.Talker"},
}


async def measure(clients: list[int], rate: float, seconds: float, rounds: int) -> None:
    """Print a table; a figure is the median of the rounds' figures."""
    count = round(rate * seconds)
    firsts: list[tuple[float, float]] = []
    chunks: dict[int, list[tuple[list[float], list[float], float]]] = {number: [] for number in clients}
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis() as redis:
        folder = Path(name)
        (folder / "agents.yaml").write_text(yaml.safe_dump({"agents": [_AGENT]}))
        environment = worker_environment(
            redis_url=redis.url,
            config=folder / "agents.yaml",
            concurrency=max(clients),
            extra={"RUNLANE_PARTITIONS": str(_PARTITIONS), "PYTHONPATH": os.getcwd()},
        )
        worker = WorkerProcess("w0", environment, folder / "log")
        with WorkerFleet([worker]) as fleet:
            await fleet.ready(redis.url, _PARTITIONS)
            async with AsyncClient(redis.url, partitions=_PARTITIONS) as client, RawPubSub.start(redis.url) as raw:
                await _say(client, "warm", 1, 1)
                for _ in range(rounds):
                    ours = median([await _first_ms(client) for _ in range(_FIRSTS)])
                    firsts.append((ours, median([await raw.first_ms() for _ in range(_FIRSTS)])))
                    for number, found in chunks.items():
                        began = time.perf_counter()
                        told = await asyncio.gather(*(_say(client, f"s{i}", count, rate) for i in range(number)))
                        took = time.perf_counter() - began
                        ages = [age for one in told for age in one]
                        found.append((ages, await raw.latencies_ms(number, count, rate), len(ages) / took))
    _print(firsts, chunks, rate, rounds)


async def _first_ms(client: AsyncClient) -> float:
    """Submit → the first ``llm.delta`` is here. The run is seen to its end, so that the next finds a quiet fleet."""
    began = time.perf_counter()
    first = 0.0
    async for chunk in client.run_stream(
        agent_id="talker", session_id="warm", input_text=json.dumps({"count": 1, "rate": 1})
    ):
        if chunk.kind is RunStreamChunkKind.LLM_DELTA:
            first = (time.perf_counter() - began) * 1000
    return first


async def _say(client: AsyncClient, session: str, count: int, rate: float) -> list[float]:
    """Ages of a run's pieces when they are here."""
    ages: list[float] = []
    text = json.dumps({"count": count, "rate": rate})
    async for chunk in client.run_stream(agent_id="talker", session_id=session, input_text=text):
        if chunk.kind is RunStreamChunkKind.LLM_DELTA:
            ages += latencies_ms(chunk.payload["text"])
    if len(ages) != count:
        raise SystemExit(f"{count} pieces were said, {len(ages)} came")
    return ages


def _print(
    firsts: list[tuple[float, float]],
    chunks: dict[int, list[tuple[list[float], list[float], float]]],
    rate: float,
    rounds: int,
) -> None:
    table = Table(title=f"stream: milliseconds, medians of {rounds} rounds, {rate:g} chunks/s for each client")
    for heading in ("figure", "clients", "chunks/s", "Runlane", "raw pub/sub", "ratio"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")

    def row(figure: str, clients: int, reached: str, pairs: list[tuple[float, float]]) -> None:
        ours, raw = median(ours for ours, _ in pairs), median(raw for _, raw in pairs)
        ratio = median(ours / raw for ours, raw in pairs)
        table.add_row(figure, str(clients), reached, f"{ours:.2f}", f"{raw:.2f}", f"{ratio:.1f}")

    row("first chunk p50", 1, "", firsts)
    for clients, found in chunks.items():
        reached = f"{median(reached for _, _, reached in found):.0f}"
        for percent in (50, 99):
            pairs = [(_percentile(ours, percent), _percentile(raw, percent)) for ours, raw, _ in found]
            row(f"chunk p{percent}", clients, reached, pairs)
    Console().print(table)


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
