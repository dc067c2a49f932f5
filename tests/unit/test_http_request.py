"""What the network tools reach, and what they do not."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runtime_core.errors import (
    PermanentToolError,
    RetryableToolError,
    ToolAuthError,
    ToolError,
    ToolTimeoutError,
    ToolUnavailableError,
    ToolValidationError,
)
from runtime_core.plugins.builtin.tool.egress import is_public
from runtime_core.plugins.builtin.tool.host_lookup import HostLookupTool
from runtime_core.plugins.builtin.tool.http_request import HttpRequestTool
from tests.unit.loopback_http import LoopbackServer, Received, Response, loopback_server

LOCATIONS = {
    "/metadata": "http://169.254.169.254/latest/meta-data/",
    "/rebound": "http://private.test/",
    "/file": "file:///etc/passwd",
    "/user": "http://ada:pw@127.0.0.1/",
    "/broken": "http://[::1",
    "/loop": "/loop",
}


def respond(received: Received) -> Response:
    path = received.path.partition("?")[0]
    if path.startswith("/to/"):
        _, _, status, target = path.split("/", 3)
        return Response(status=int(status), headers={"Location": f"/{target}"})
    if path in LOCATIONS:
        return Response(status=302, headers={"Location": LOCATIONS[path]})
    match path:
        case "/long":
            return Response(body=b"x" * 5000)
        case "/zipped":
            return Response(body=gzip.compress(b"z" * 1_000_000), headers={"Content-Encoding": "gzip"})
        case "/zipped-and-more":
            body = gzip.compress(b"z") + b"never ends"
            return Response(body=body, headers={"Content-Encoding": "gzip", "Content-Length": "1000000"})
        case "/unzippable":
            return Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})
        case "/brotli":
            return Response(body=b"?", headers={"Content-Encoding": "br"})
        case "/latin":
            return Response(body=b"caf\xe9", headers={"Content-Type": "text/plain; charset=iso-8859-1"})
        case "/odd":
            return Response(body=b"caf\xc3\xa9", headers={"Content-Type": "text/plain; charset=klingon"})
        case "/missing":
            return Response(status=404, body=b"no")
        case _:
            return Response(body=f"{received.method} {received.body.decode()}".encode())


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server(respond) as running:
        yield running


async def ask(url: str, *, config: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return await HttpRequestTool({"allow_private": True} | (config or {})).invoke({"url": url, **params}, None)


async def test_a_response_is_returned(server: LoopbackServer) -> None:
    answer = await ask(f"{server.url}/x?a=1", method="post", body={"a": "é"}, headers={"X-Mine": "1"})

    assert {key: answer[key] for key in ("url", "method", "status", "body", "success", "truncated")} == {
        "url": f"{server.url}/x?a=1",
        "method": "POST",
        "status": 200,
        "body": 'POST {"a": "\\u00e9"}',
        "success": True,
        "truncated": False,
    }
    headers = server.received[0].headers
    assert (headers["content-type"], headers["x-mine"]) == ("application/json", "1")
    assert headers["host"] == server.url.removeprefix("http://")


async def test_a_status_is_no_error_of_the_tool(server: LoopbackServer) -> None:
    answer = await ask(f"{server.url}/missing")

    assert (answer["status"], answer["success"], answer["body"]) == (404, False, "no")


@pytest.mark.parametrize(("path", "text"), [("/latin", "café"), ("/odd", "café"), ("/long", "x" * 1000)])
async def test_a_body_is_decoded_and_bounded(server: LoopbackServer, path: str, text: str) -> None:
    answer = await ask(server.url + path, config={"max_response_bytes": 1000})

    assert answer["body"] == text
    assert answer["truncated"] is (path == "/long")


async def test_a_compressed_body_is_bounded_by_what_it_becomes(server: LoopbackServer) -> None:
    cut = await ask(f"{server.url}/zipped", config={"max_response_bytes": 100})
    whole = await ask(f"{server.url}/zipped", config={"max_response_bytes": 2_000_000})

    assert (cut["body"], cut["truncated"]) == ("z" * 100, True)
    assert (len(whole["body"]), whole["truncated"]) == (1_000_000, False)


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET "),
        (302, "POST", "GET "),
        (303, "PUT", "GET "),
        (307, "POST", "POST b"),
        (308, "PUT", "PUT b"),
    ],
)
async def test_a_redirect_is_followed_as_its_status_says(
    server: LoopbackServer, status: int, method: str, then: str
) -> None:
    answer = await ask(f"{server.url}/to/{status}/end", method=method, body="b", headers={"Authorization": "Bearer t"})

    assert (answer["body"], answer["url"]) == (then, f"{server.url}/end")
    assert server.received[1].headers["authorization"] == "Bearer t"


async def test_another_host_sees_no_credentials(server: LoopbackServer) -> None:
    with loopback_server(lambda _: Response(status=302, headers={"Location": f"{server.url}/end"})) as first:
        await ask(
            first.url, headers={"Authorization": "Bearer t", "X-Api-Key": "k", "Cookie": "c=1", "Accept": "text/html"}
        )

    seen = server.received[0].headers
    assert seen["accept"] == "text/html"
    assert not {"authorization", "x-api-key", "cookie"} & seen.keys()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[fe80::1]",
        "[fc00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
async def test_a_private_address_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(ToolAuthError, match="private, loopback") as caught:
        await ask(f"http://{host}:1/", config={"allow_private": False})

    assert "allow_private" in str(caught.value)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", ["fec0::1", "::7f00:1", "64:ff9b:1::7f00:1", "4000::1", "fe80::1%lo", "192.0.0.8", "240.0.0.1"]
)
def test_an_address_of_somebodys_own_network_is_not_public(address: str) -> None:
    assert not is_public(address)


class Names:
    """Answers of a name server, in turn: what it says first need not be what it says next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
        self.asked: list[str] = []
        self._answers = {name.replace("_", "."): turns for name, turns in answers.items()}
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host not in self._answers:
            return self._real(host, port, *more, **named)
        self.asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in self._answers[host].pop(0)
        ]


async def test_the_address_that_was_judged_is_the_one_that_is_asked(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, app_test=[["127.0.0.1"], ["192.0.2.1"]])
    port = server.url.rpartition(":")[2]

    answer = await ask(f"http://app.test:{port}/x")

    assert names.asked == ["app.test"]
    assert answer["url"] == f"http://app.test:{port}/x"
    assert server.received[0].headers["host"] == f"app.test:{port}"


async def test_the_next_address_is_tried_if_nothing_listens_at_the_first(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, app_test=[["127.0.0.9", "127.0.0.1"]])

    assert (await ask(f"http://app.test:{server.url.rpartition(':')[2]}/x"))["status"] == 200


async def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, app_test=[["93.184.216.34", "10.0.0.1"]])

    with pytest.raises(ToolAuthError, match=r"'app\.test' has a private"):
        await ask("http://app.test/", config={"allow_private": False})


@pytest.mark.parametrize(
    ("path", "error", "essential"),
    [
        ("/metadata", ToolAuthError, "'169.254.169.254' has a private"),
        ("/rebound", ToolAuthError, "'private.test' has a private"),
        ("/file", ToolValidationError, "http or https"),
        ("/user", ToolValidationError, "contains credentials"),
        ("/broken", ToolUnavailableError, "RemoteProtocolError"),
        ("/loop", PermanentToolError, "more than 5 redirects"),
    ],
)
async def test_each_redirect_is_judged_anew(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, path: str, error: type[ToolError], essential: str
) -> None:
    # The first hop counts as public here, so that the second one is what is refused.
    monkeypatch.setattr("runtime_core.plugins.builtin.tool.egress.is_public", lambda address: address == "127.0.0.1")
    Names(monkeypatch, private_test=[["10.0.0.1"]])

    with pytest.raises(error, match=essential) as caught:
        await ask(server.url + path, config={"allow_private": False})

    assert "pw" not in str(caught.value)
    assert {received.path for received in server.received} == {path}


@pytest.mark.parametrize(
    ("allowed", "host", "fits"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["example.com"], "127.0.0.1", False),
        (["*.test"], "app.test", True),
        (["*.test"], "app.testing", False),
        (["*.test"], "test", False),
        ([], "127.0.0.1", False),
    ],
)
async def test_only_listed_hosts_are_asked(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, allowed: list[str], host: str, fits: bool
) -> None:
    Names(monkeypatch, app_test=[["127.0.0.1"]])
    url, config = f"http://{host}:{server.url.rpartition(':')[2]}/", {"allowed_hosts": allowed}

    if fits:
        assert (await ask(url, config=config))["success"]
    else:
        with pytest.raises(ToolAuthError, match="is not allowed"):
            await ask(url, config=config)
        assert server.received == []


@pytest.mark.parametrize(
    ("params", "essential"),
    [
        ({"url": "example.com"}, "http or https"),
        ({"url": "gopher://example.com"}, "http or https"),
        ({"url": "http://"}, "http or https"),
        ({"url": "http://0177.0.0.1"}, "cannot be read"),
        ({"url": "http://ada:hunter2@example.com"}, "contains credentials"),
        ({"url": "http://x", "method": "BREW"}, "method"),
        ({"url": "http://x", "headers": {"Host": "other"}}, "'host' is set by the tool"),
        ({"url": "http://x", "headers": {"Transfer-Encoding": "chunked"}}, "'transfer-encoding' is set by the tool"),
        ({"url": "http://127.0.0.1:1", "headers": {"X-A": "1\r\nX-B: 2"}}, "headers.X-A: "),
        ({"url": "http://127.0.0.1:1", "headers": {"é": "1"}}, "headers.é"),
    ],
)
async def test_a_request_that_makes_no_sense_is_said(params: dict[str, Any], essential: str) -> None:
    with pytest.raises(ToolValidationError) as caught:
        await HttpRequestTool({"allow_private": True}).invoke(params, None)

    assert essential in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", ["/unzippable", "/brotli"])
async def test_a_body_that_cannot_be_decompressed_is_said(server: LoopbackServer, path: str) -> None:
    with pytest.raises(PermanentToolError, match="response"):
        await ask(server.url + path)


async def test_what_comes_behind_a_compressed_body_is_not_waited_for(server: LoopbackServer) -> None:
    assert (await ask(f"{server.url}/zipped-and-more"))["body"] == "z"


async def test_a_host_that_is_not_there_may_be_tried_again(unused_tcp_port: int) -> None:
    with pytest.raises(ToolUnavailableError, match=r"127\.0\.0\.1 cannot be reached: ConnectError"):
        await ask(f"http://127.0.0.1:{unused_tcp_port}/")
    with pytest.raises(RetryableToolError, match="cannot be resolved"):
        await ask("http://no-such-host.invalid/")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ToolTimeoutError, match=r"0\.2 s"):
        await ask(f"http://127.0.0.1:{silent.getsockname()[1]}/", config={"timeout": 0.2}, timeout=60)


async def test_the_proxies_of_the_environment_are_not_asked(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert (await ask(server.url))["success"]


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("https://example.com:8443/x", "example.com", 8443), ("localhost:80", "localhost", 80), ("[::1]", "::1", None)],
)
async def test_a_host_is_taken_from_its_url(url: str, host: str, port: int | None) -> None:
    answer = await HostLookupTool().invoke({"url": url}, None)

    assert (answer["host"], answer["port"]) == (host, port)
    assert "addresses" not in answer


async def test_a_host_is_resolved_on_request_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = await HostLookupTool({"allow_private": True}).invoke({"url": "localhost", "resolve": True}, None)
    assert set(looked_up["addresses"]) <= {"127.0.0.1", "::1"}
    with pytest.raises(ToolAuthError, match="private"):
        await HostLookupTool().invoke({"url": "localhost", "resolve": True}, None)

    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10))
    with pytest.raises(ToolTimeoutError, match=r"resolving 'slow\.test'"):
        await HostLookupTool({"timeout": 0.05}).invoke({"url": "slow.test", "resolve": True}, None)
    answered.set()
