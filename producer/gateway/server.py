"""How the gateway listens: uvicorn, with bounds on what a client may hold.

The parser is h11: it bounds the head of a request (16 KiB) where httptools takes any length
(https://h11.readthedocs.io/en/latest/api.html#h11.Connection).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from producer.gateway.problems import answer, problem_of
from runtime_core.errors import ConfigError, RequestError, RequestTooLarge, RequestTooSlow, TooManyStreams

#: Seconds that open requests get to end when the process is told to stop.
GRACE_S = 3.0
#: Seconds for which a connection without a request stays open.
_KEEP_ALIVE_S = 60
_BACKLOG = 1024
#: Seconds that a client gets to take the last words of a response that is cut.
LINGER_S = 2.0
_PROTOCOL = "runlane.protocol"


def cut(scope: Scope, last_words: bytes) -> None:
    """End the response of a request that is served by ``serve``, past what its client has not taken yet.

    If the client does not take that within LINGER_S the connection is broken, and what waits in its buffers is dropped.
    """
    protocol: _Protocol = scope["extensions"][_PROTOCOL]
    protocol.cut(last_words)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises ConfigError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, UnicodeError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error}",
            hint="give --port another one, or 0 for a free one; --host is an address of this machine",
        ) from error
    listening.setblocking(False)
    return listening


def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    connections: int,
    request_s: float,
    on_started: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT. ``on_stop`` is called when that has come, before open requests are waited for.

    At most ``connections`` at once; the head of a request gets ``request_s`` seconds.
    """

    class Protocol(_Protocol):
        limit = connections
        head_s = request_s

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(GRACE_S),
    )
    server = _Server(config, on_started, on_stop)
    # uvicorn raises the signal that stopped it once more when it has ended: to be told to stop is no failure.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """uvicorn's protocol, with problems in place of bare text, a deadline for the head, and a limit of connections."""

    limit: int
    head_s: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            self._refuse(TooManyStreams("the gateway has as many connections as it may", retry_after_ms=1_000))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        # A later request on the connection has its head bounded too: its first byte ended uvicorn's keep-alive timer.
        begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        if begun and self._deadline is None and not self.transport.is_closing():
            self._await_head()

    def handle_events(self) -> None:
        before = self.scope
        super().handle_events()
        if self.scope is not before:  # a request's head was read; its task has not begun
            self._head_is_there()
            scope: Any = self.scope
            scope.setdefault("extensions", {})[_PROTOCOL] = self

    def send_400_response(self, msg: str) -> None:
        received, _ = self.conn.trailing_data
        too_long = len(received) >= 16 * 1024
        self._refuse(
            RequestTooLarge("the head of the request is larger than 16 KiB", hint="send fewer or shorter headers")
            if too_long
            else RequestError("the request is no HTTP/1.1", hint="see RFC 9112")
        )

    def cut(self, last_words: bytes) -> None:
        if self.transport.is_closing():
            return
        parts = [self.conn.send(h11.Data(data=last_words)), self.conn.send(h11.EndOfMessage())]
        self.cycle.response_complete = True
        self.transport.write(b"".join(part for part in parts if part))
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self._head_is_late)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        self._refuse(RequestTooSlow(f"the head of the request did not come within {self.head_s:g} s"))

    def _refuse(self, error: RequestError | TooManyStreams) -> None:
        """Answer by hand, for there is no request to answer, and close."""
        response = answer(problem_of(error), {"Connection": "close"})
        head = f"HTTP/1.1 {response.status_code} {problem_of(error).title}\r\n".encode()
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(head + lines + b"\r\n" + bytes(response.body))
        self.transport.close()


logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
