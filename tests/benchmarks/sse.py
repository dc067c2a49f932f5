"""CPU that the server spends on a chunk: the gateway's own frames beside sse-starlette's EventSourceResponse.

``python -m tests.benchmarks.sse`` is the server: uvicorn with h11, both ways on one port, chunks from memory.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.gateway.server import listen, serve
from producer.gateway.sse import EventStream, StreamEnd
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from tests.benchmarks.agents.talk import pieces

_WAYS = ("plain", "library")
_HEARTBEAT_S = 15


async def _chunks(request: Request) -> AsyncGenerator[RunStreamChunk, None]:
    count, rate = int(request.query_params["count"]), float(request.query_params["rate"])
    sequence = 0
    async for piece in pieces(count, rate):
        sequence += 1
        yield RunStreamChunk(
            kind=RunStreamChunkKind.LLM_DELTA,
            run_id="a" * 32,
            session_id="session",
            agent_id="talker",
            sequence=sequence,
            attempt=1,
            payload={"text": piece},
            cursor=str(sequence),
        )


async def _plain(request: Request) -> Response:
    async def ended(_: StreamEnd) -> None: ...

    return EventStream(
        _chunks(request),
        label="run",
        heartbeat_s=_HEARTBEAT_S,
        stall_s=30,
        closing=request.app.state.closing,
        allowed=lambda: True,
        on_end=ended,
    )


async def _library(request: Request) -> Response:
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for chunk in _chunks(request):
            data = chunk.model_dump_json(exclude={"cursor"})
            yield ServerSentEvent(id=chunk.cursor, event=chunk.kind.value, data=data, sep="\n")

    return EventSourceResponse(events(), ping=_HEARTBEAT_S, sep="\n")


def _serve() -> None:
    app = Starlette(routes=[Route("/plain", _plain), Route("/library", _library)])
    app.state.closing = asyncio.Event()
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        started = lambda: print(port, flush=True)  # noqa: E731, T201
        closing = app.state.closing.set
        serve(app, listening, connections=2_000, request_s=30.0, on_started=started, on_stop=closing)


async def measure(clients: list[int], rate: float, seconds: float, rounds: int) -> None:
    """Print a table; a figure is the median of the rounds' figures."""
    count = round(rate * seconds)
    found: dict[tuple[int, str], list[float]] = {(number, way): [] for number in clients for way in _WAYS}
    server = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.sse"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for way in _WAYS:
            await _read(port, way, 10, 100)
        for _ in range(rounds):
            for (number, way), figures in found.items():
                before = _cpu_s(server.pid)
                await asyncio.gather(*(_read(port, way, count, rate) for _ in range(number)))
                figures.append((_cpu_s(server.pid) - before) / (number * count) * 1e6)
    finally:
        server.terminate()
        server.wait()
    table = Table(title=f"sse: µs of the server's CPU per chunk, medians of {rounds} rounds, {rate:g} chunks/s each")
    for heading in ("clients", "plain frames", "sse-starlette", "ratio"):
        table.add_column(heading, justify="right")
    for number in clients:
        plain, library = found[number, "plain"], found[number, "library"]
        ratio = median(b / a for a, b in zip(plain, library, strict=True))
        table.add_row(str(number), f"{median(plain):.0f}", f"{median(library):.0f}", f"{ratio:.2f}")
    Console().print(table)


async def _read(port: int, way: str, count: int, rate: float) -> None:
    """A client that reads to the end, with as little work as can be: it shares the machine with the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /{way}?count={count}&rate={rate} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    events = 0
    async for line in reader:
        events += line.startswith(b"event: llm.delta")
    writer.close()
    if events != count:
        raise SystemExit(f"{way}: {count} chunks were sent, {events} came")


def _cpu_s(pid: int) -> float:
    """Time on a CPU of a process' main thread, which is all that the server's event loop uses; finer than its stat.

    See https://docs.kernel.org/scheduler/sched-stats.html
    """
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    _serve()
