"""What a client may hold of the server: heads, connections, and streams that it does not read. Raw sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from producer.gateway.server import LINGER_S
from runtime_core.contracts.run import RunRequest
from runtime_core.ids import scoped_run_id
from tests.integration.fleet.conftest import wait_until
from tests.integration.gateway.conftest import GatewayProcess, StartGateway, Store

CONNECTIONS = 40
STALL_S = 2.0
REQUEST_S = 2.0


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayProcess:
    return start_gateway(
        RUNLANE_GATEWAY_CONNECTIONS=str(CONNECTIONS),
        RUNLANE_GATEWAY_STALL_S=str(STALL_S),
        RUNLANE_GATEWAY_HEARTBEAT_S="0.5",
        RUNLANE_GATEWAY_BODY_BYTES="100000",
        RUNLANE_GATEWAY_REQUEST_S=str(REQUEST_S),
    )


class Raw:
    """One TCP connection to the gateway."""

    def __init__(self, gateway: GatewayProcess) -> None:
        parts = urlsplit(gateway.url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # a client that stops reading is noticed soon
        self.socket.settimeout(REQUEST_S + 10)
        self.socket.connect((parts.hostname, parts.port))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def follow(self, run_id: str) -> None:
        self.send(f"GET /runs/{run_id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    async def rest(self) -> bytes:
        """All that comes until the server closes."""

        def read() -> bytes:
            parts: list[bytes] = []
            try:
                while part := self.socket.recv(65536):
                    parts.append(part)
            except ConnectionError:  # it was broken, and not closed
                pass
            return b"".join(parts)

        return await asyncio.to_thread(read)


def problem(answer: bytes) -> tuple[int, str]:
    """(status, code) of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    return int(head.split()[1]), json.loads(body)["code"]


async def test_a_head_that_does_not_come_is_not_waited_for(gateway: GatewayProcess) -> None:
    began = time.monotonic()
    idle, slow = Raw(gateway), Raw(gateway)
    slow.send(b"GET /healthz HTTP/1.1\r\nHost:")
    for answer in await asyncio.gather(idle.rest(), slow.rest()):
        assert problem(answer) == (408, "request.too_slow")
    assert REQUEST_S - 1 < time.monotonic() - began < REQUEST_S + 5


async def test_the_head_of_a_later_request_is_not_waited_for_either(gateway: GatewayProcess) -> None:
    client = Raw(gateway)
    client.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert client.socket.recv(65536).startswith(b"HTTP/1.1 200 ")
    client.send(b"GET /healthz HTTP/1.1\r\nHost:")
    answer = await client.rest()
    assert problem(answer[answer.index(b"HTTP/1.1 4") :]) == (408, "request.too_slow")


async def test_a_head_without_end_and_what_is_no_http_are_refused(gateway: GatewayProcess) -> None:
    endless, garbage = Raw(gateway), Raw(gateway)
    endless.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000)
    garbage.send(b"\x16\x03\x01\r\n\r\n")
    assert problem(await endless.rest()) == (413, "request.too_large")
    assert problem(await garbage.rest()) == (400, "request.error")


@pytest.mark.parametrize(
    "head_and_body",
    [
        pytest.param(b"Content-Length: 9999999\r\n\r\n", id="announced"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n" + b"20000\r\n" + b" " * 0x20000 + b"\r\n", id="chunked"),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_its_end(gateway: GatewayProcess, head_and_body: bytes) -> None:
    client = Raw(gateway)
    client.socket.settimeout(REQUEST_S / 2)
    client.send(b"POST /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" + head_and_body)
    answer = client.socket.recv(65536)
    client.socket.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_beyond_its_connections_it_says_when_to_come_back_and_serves_those_that_are_there(
    gateway: GatewayProcess,
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as there:
        await there.get("/healthz")
        others = [Raw(gateway) for _ in range(CONNECTIONS)]
        answer = await others[-1].rest()
        assert problem(answer) == (429, "gateway.too_many_streams")
        assert b"retry-after: 1\r\n" in answer.lower()
        assert (await there.get("/healthz")).status_code == 200
    for other in others:
        other.socket.close()


async def test_a_client_that_reads_again_in_time_is_told_why_it_was_cut(gateway: GatewayProcess, store: Store) -> None:
    request = RunRequest(agent_id="a", session_id="resting", input_text="x", run_id="resting")
    async with store.client("default") as client:
        await client.submit(request)
    attempt = await store.begin(scoped_run_id("default", "resting"))
    resting = Raw(gateway)
    resting.follow("resting")
    for _ in range(200):
        await attempt.append(*(attempt.frame("llm.delta", text="x" * 10_000) for _ in range(3)))
    await wait_until(lambda: "run resting is cut" in gateway.logged(), "it is cut", STALL_S + 15)

    received = await resting.rest()

    assert b"\r\nconnection: close\r\n" in received.lower(), "a next request would be cut with it"
    assert received.endswith(b'event: stream.cut\ndata: {"reason":"stalled"}\n\n\r\n0\r\n\r\n')
    await attempt.finish()


async def test_a_client_that_never_reads_again_is_let_go(gateway: GatewayProcess, store: Store) -> None:
    request = RunRequest(agent_id="a", session_id="gone", input_text="x", run_id="gone")
    async with store.client("default") as client:
        await client.submit(request)
    attempt = await store.begin(scoped_run_id("default", "gone"))
    before = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
    gone = Raw(gateway)
    gone.follow("gone")
    for _ in range(200):
        await attempt.append(*(attempt.frame("llm.delta", text="x" * 10_000) for _ in range(3)))
    await wait_until(lambda: "run gone is cut" in gateway.logged(), "it is cut", STALL_S + 15)

    def closed() -> bool:
        return len(os.listdir(f"/proc/{gateway.process.pid}/fd")) <= before

    await wait_until(closed, "its connection is closed, and what waited for it is dropped", LINGER_S + 5)
    gone.socket.close()
    await attempt.finish()
