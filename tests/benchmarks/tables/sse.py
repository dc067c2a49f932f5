"""Chunks that one gateway process delivers to 200 SSE clients, beside the same with sse-starlette."""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime_core.embedded import EmbeddedRedis
from tests.benchmarks.harness import usage
from tests.benchmarks.harness.children import Caller, Child, ChildFailed
from tests.benchmarks.harness.figures import Ratio, at_least
from tests.benchmarks.harness.systems import caller
from tests.benchmarks.harness.table import Case, Chart, Scale, Table
from tests.benchmarks.harness.venvs import python_of

_CLIENTS = 200
_CLIENT = "tests.benchmarks.ours.sse_clients"
_LISTENS_WITHIN_S = 20.0


def _gateway(scale: Scale) -> Mapping[str, float]:
    with EmbeddedRedis() as redis, caller(redis, _CLIENT) as clients:
        runs = clients.ask("prepare", runs=_CLIENTS)["runs"]
        port = _free_port()
        command = [sys.executable, "-m", "producer.cli.main", "gateway", "--port", str(port)]
        with _server(command, {"RUNLANE_REDIS_URL": redis.url}, port) as pid:
            return _deliver(clients, pid, port, [f"/runs/{run}/stream" for run in runs], scale)


def _library(scale: Scale) -> Mapping[str, float]:
    python = python_of("sse")
    with EmbeddedRedis() as redis, caller(redis, _CLIENT) as clients:
        channels = clients.ask("prepare", runs=_CLIENTS)["channels"]
        port = _free_port()
        command = [str(python), "-m", "tests.benchmarks.peers.sse_server", str(port)]
        with _server(command, {"BENCH_REDIS_URL": redis.url}, port) as pid:
            return _deliver(clients, pid, port, [f"/{channel}" for channel in channels], scale)


def _deliver(clients: Caller, server: int, port: int, paths: Sequence[str], scale: Scale) -> Mapping[str, float]:
    clients.ask("connect", port=port, paths=list(paths))
    clients.ask("deliver", steps=2)
    before = usage.cpu_s([server])
    found = clients.ask("deliver", steps=scale.count(20, 5))
    spent = usage.cpu_s([server]) - before
    return {
        "delivered": found["chunks"] / found["seconds"],
        "per CPU second": found["chunks"] / spent,
        "busy": spent / found["seconds"] * 100,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(command: Sequence[str], environment: Mapping[str, str], port: int) -> Generator[int]:
    """Its process id, when it listens."""
    with tempfile.TemporaryDirectory() as folder, Child(command, Path(folder) / "log", environment) as child:
        deadline = time.monotonic() + _LISTENS_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if child.process.poll() is not None or time.monotonic() > deadline:
                    raise ChildFailed(f"the server does not listen: {child.last_words()}") from None
            time.sleep(0.05)
        yield child.pid


TABLE = Table(
    name="sse",
    title="sse: chunks that one server process delivers to 200 SSE clients",
    note="The server is `runlane gateway`; a feed writes to log, record and pub/sub what a worker writes, as much as "
    "the clients take. sse-starlette sends one event for each chunk, which it takes from pub/sub as it is. Held "
    "against the goal is what a second of the server's CPU delivers: the clock counts the feed and the clients, too.",
    units={"delivered": "chunks/s", "per CPU second": "chunks/s", "busy": "% of a core"},
    cases=[Case(system="Runlane gateway", measure=_gateway), Case(system="sse-starlette", measure=_library)],
    comparisons=[
        Ratio(
            label="per second of CPU",
            measure="per CPU second",
            ours="Runlane gateway",
            peer="sse-starlette",
            bound=at_least(1.0, 2.0),
        ),
        Ratio(label="by the clock", measure="delivered", ours="Runlane gateway", peer="sse-starlette"),
    ],
    chart=Chart(measures=["per CPU second"], systems=["Runlane gateway", "sse-starlette"]),
)
