"""Streams over HTTP of runs that real workers execute: crowds, clients that come and go or read nothing, and curl."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from producer.client import AsyncClient
from producer.handle import RunHandle
from runtime_core.contracts.stream import RunStreamChunkKind
from tests.acceptance.command import Command
from tests.chaos.proxy import Proxy
from tests.integration.fleet.conftest import PARTITIONS, request, wait_until
from tests.integration.gateway.conftest import GatewayProcess
from tests.integration.gateway.event_source import Heard, asking, come_and_go, listen, parse
from tests.integration.talking_workers import TalkingWorkers
from tests.integration.talking_workers import client as client
from tests.integration.talking_workers import proxy as proxy
from tests.integration.talking_workers import workers as workers

pytestmark = pytest.mark.slow

CROWD = 200
#: Clients that read nothing, of a run that says this much: beyond what sockets take, and far beyond LARGEST_GROWTH.
STALLED, PIECES, PIECE_LENGTH = 20, 300, 20_000
#: Bytes by which the gateway may grow for them: what all of it would need is 120 MB.
LARGEST_GROWTH = 50_000_000

Start = Callable[..., GatewayProcess]


@pytest.fixture
async def start(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a gateway; all are ended with the test."""
    with ExitStack() as stack:

        def start(port: int = 0, **environment: str) -> GatewayProcess:
            known = {"RUNLANE_REDIS_URL": proxy.url, "RUNLANE_PARTITIONS": str(PARTITIONS)}
            command = Command(**known, **environment)
            gateway = GatewayProcess(command, "--port", str(port), log=tmp_path / "log")
            stack.callback(end, gateway)
            return gateway

        # It connects through the proxy only when it is asked something: this event loop is busy with its start.
        yield start


def end(gateway: GatewayProcess) -> None:
    if gateway.process.poll() is None:
        gateway.process.kill()
    gateway.process.communicate()


async def log_of(workers: TalkingWorkers, run_id: str) -> list[tuple[str, str]]:
    """Cursor and kind of what the run's log holds, which is dense and ends with its end."""
    log = await workers.log(run_id)
    assert [chunk.sequence for chunk in log] == list(range(1, len(log) + 1))
    assert [chunk.kind for chunk in log].index(RunStreamChunkKind.RUN_FINISHED) == len(log) - 1
    return [(chunk.cursor, chunk.kind.value) for chunk in log]


def told(events: list[Heard]) -> list[tuple[str, str]]:
    return [(event.cursor, event.kind) for event in events]


async def read(url: str, run_id: str) -> list[Heard]:
    """What a client gets over one connection."""
    return [event async for event in listen(url, run_id)]


async def test_200_clients_of_one_run_and_of_200_runs_cost_as_many_connections_as_one(
    client: AsyncClient, workers: TalkingWorkers, proxy: Proxy, start: Start
) -> None:
    url = start().url
    alone = await client.submit(request("talk 5 40"))
    assert told(await read(url, alone.run_id)) == await log_of(workers, alone.run_id)
    connections = proxy.connections

    shared = await client.submit(request("talk 20 20", session="shared"))
    crowd = await asyncio.gather(*(read(url, shared.run_id) for _ in range(CROWD)))
    log = await log_of(workers, shared.run_id)
    assert all(told(events) == log for events in crowd)

    requests = [request("talk 20 20", session=f"own {number}") for number in range(CROWD)]
    handles = [handle for handle in await client.submit_many(requests) if isinstance(handle, RunHandle)]
    each = await asyncio.gather(*(read(url, handle.run_id) for handle in handles))
    assert len(each) == CROWD
    for handle, events in zip(handles, each, strict=True):
        assert [event.cursor for event in events] == [str(number) for number in range(1, len(events) + 1)]
        assert events[-1].kind == "run.finished"
        assert {event.data["run_id"] for event in events} == {handle.run_id}

    assert proxy.connections == connections, "redis-py closes none that it once opened"


async def test_clients_that_read_nothing_are_cut_cost_no_memory_disturb_nobody_and_may_come_back(
    client: AsyncClient, workers: TalkingWorkers, start: Start
) -> None:
    gateway = start(RUNLANE_GATEWAY_STALL_S="1")
    quick = await client.submit(request("talk 5 40", session="quick"))
    await read(gateway.url, quick.run_id)
    before = resident_bytes(gateway.process.pid)

    handle = await client.submit(request(f"talk {PIECES} 150 {PIECE_LENGTH}", session="big"))
    stalled = [await open_and_read_nothing(gateway.url, handle.run_id) for _ in range(STALLED)]
    largest = before
    reading = asyncio.create_task(read(gateway.url, handle.run_id))

    async with httpx.AsyncClient(base_url=gateway.url) as http:

        async def all_are_cut() -> bool:
            nonlocal largest
            largest = max(largest, resident_bytes(gateway.process.pid))
            counted = f'runlane_gateway_cuts_total{{reason="stalled"}} {STALLED}.0'
            return reading.done() and counted in (await http.get("/metrics")).text

        await wait_until(all_are_cut, "all that read nothing are cut, and who reads has all", 20)

    assert largest - before < LARGEST_GROWTH
    events, log = reading.result(), await log_of(workers, handle.run_id)
    assert told(events) == log
    assert sum(len(event.data["payload"].get("text", "")) for event in events) == PIECES * PIECE_LENGTH

    held = await what_came(stalled[0])
    assert 0 < len(held) < len(events)
    rest = [event async for event in listen(gateway.url, handle.run_id, held[-1].cursor)]
    assert told(held + rest) == log
    for connection in stalled:
        connection.close()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def open_and_read_nothing(url: str, run_id: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (address.hostname, address.port))
    await loop.sock_sendall(connection, asking(url, run_id))
    return connection


async def what_came(connection: socket.socket) -> list[Heard]:
    """The whole chunks that a client finds in its socket when it reads again."""
    loop, received = asyncio.get_running_loop(), b""
    try:
        while part := await loop.sock_recv(connection, 65_536):
            received += part
    except ConnectionError:  # it was broken, as those are that take nothing
        pass

    async def lines() -> AsyncGenerator[bytes, None]:
        for line in received.partition(b"\r\n\r\n")[2].splitlines(keepends=True):
            yield line

    return [event async for event in parse(lines()) if event.cursor]


async def test_curl_follows_a_run_while_it_goes_on(client: AsyncClient, start: Start) -> None:
    curl = shutil.which("curl")
    if curl is None:
        assert "CI" not in os.environ, "CI installs curl: see .ci/run"
        pytest.skip("curl is not installed")
    url = start().url
    handle = await client.submit(request("talk 20 20", session="curl"))
    process = await asyncio.create_subprocess_exec(
        curl, "-sN", f"{url}/runs/{handle.run_id}/stream", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    states: list[str] = []
    kinds: list[str] = []
    async with aclosing(parse(process.stdout)) as events:
        async for event in events:
            kinds.append(event.kind)
            if kinds.count("llm.delta") == 1 and not states:
                states.append((await handle.get()).state)
    assert await process.wait() == 0
    assert states == ["running"]
    assert kinds[-1] == "run.finished"


async def test_clients_that_come_and_go_over_a_killed_worker_a_killed_gateway_and_cut_connections_hold_the_log(
    client: AsyncClient, workers: TalkingWorkers, proxy: Proxy, start: Start
) -> None:
    """Last in this file: it takes one of the workers away."""
    gateway = start()
    handle = await client.submit(request("talk 120 50", session="killed"))
    restless = [asyncio.create_task(come_and_go(gateway.url, handle.run_id, every=50, seed=seed)) for seed in range(3)]
    patient = asyncio.create_task(come_and_go(gateway.url, handle.run_id))
    async with aclosing(client.stream(handle.run_id)) as chunks:
        async for chunk in chunks:
            if chunk.sequence == 30:
                proxy.cut()
            elif chunk.sequence == 60:
                os.kill(workers.executing(handle.run_id).pid, signal.SIGKILL)
            elif chunk.kind is RunStreamChunkKind.RUN_STARTED and chunk.attempt == 2:
                gateway.process.kill()
                gateway.process.wait()
                gateway = await asyncio.to_thread(start, urlsplit(gateway.url).port)
    async with asyncio.timeout(15):
        held = await asyncio.gather(patient, *restless)

    log = await log_of(workers, handle.run_id)
    assert "run.interrupted" in [kind for _, kind in log]
    assert all(told(events) == log for events in held)
