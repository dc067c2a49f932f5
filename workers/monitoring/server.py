"""A small HTTP server on threads of its own: it answers while the event loop hangs."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import urlsplit

from runtime_core.errors import ConfigError

#: Seconds for which a client may keep a thread waiting for its request.
_CLIENT_TIMEOUT = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"


#: Gets the value of the request's Accept header.
Route = Callable[[str], Answer]


class HttpServer:
    """GET and HEAD for the paths of ``routes``; another path is 404, another method 405.

    Binds at once; port 0 takes a free one, ``port`` says which. Raises ConfigError if the address cannot be had.
    """

    def __init__(self, host: str, port: int, routes: Mapping[str, Route], *, option: str) -> None:
        try:
            self._server = _Server(host, port, routes)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is none
            raise ConfigError(
                f"{host}:{port} cannot be listened on: {error}",
                hint=f"each worker of a host needs a port of its own: give {option} another one, or 0 for a free one"
                " (the heartbeat and the log name it); --http-host is an address of this machine",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name=f"http-{self.port}", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, host: str, port: int, routes: Mapping[str, Route]) -> None:
        self.routes = routes
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_TIMEOUT
    server_version = "Runlane"
    sys_version = ""

    def parse_request(self) -> bool:
        """False, the request being answered, if it is malformed or its method is another one."""
        if not super().parse_request():
            return False
        if self.command in ("GET", "HEAD"):
            return True
        self.close_connection = True
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        routes = cast(_Server, self.server).routes
        route = routes.get(urlsplit(self.path).path)
        if route is None:
            known = ", ".join(sorted(routes))
            answer = Answer(
                body=f"not found; there is: {known}\n".encode(), status=HTTPStatus.NOT_FOUND, content_type="text/plain"
            )
        else:
            answer = route(self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that the base class gives it)
        """Probes come every few seconds: the log is for what happens."""
