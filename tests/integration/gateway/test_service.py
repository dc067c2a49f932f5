"""The gateway itself: probes, what it has not got, who may come in, Redis that is away, and the tokens of its file."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml

from runtime_core.embedded import EmbeddedRedis
from tests.acceptance.command import Command
from tests.integration.fleet.conftest import wait_until
from tests.integration.gateway.conftest import PARTITIONS, GatewayProcess, StartGateway, Store, Tokens


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_and_the_document_need_no_token(gateway: GatewayProcess, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get(path)).json() == {"status": "ok"}
        assert (await http.get("/openapi.json")).json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("path", ["/nothing", "/runs/", "/runs/a/b", "/sessions/", "/page/nothing", "/%2e%2e"])
async def test_there_is_nothing_elsewhere(http: httpx.AsyncClient, path: str) -> None:
    missing = await http.get(path)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert missing.json()["code"] == "request.route_not_found"


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd"])
async def test_nothing_beside_the_page_is_served(gateway: GatewayProcess, path: str) -> None:
    async with httpx.AsyncClient() as http:
        # As it stands: a URL object would be normalised by the client.
        target = httpx.URL(gateway.url).copy_with(raw_path=path.encode())
        assert (await http.get(target)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/runs", {"POST"}),
        ("GET", "/runs", {"POST"}),
        ("DELETE", "/runs/r", {"GET", "HEAD"}),
        ("POST", "/sessions/s", {"GET", "HEAD", "DELETE"}),
        ("OPTIONS", "/runs", {"POST"}),
        ("TRACE", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_refused_with_those_that_it_does(
    http: httpx.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    refused = await http.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (405, "request.method_not_allowed")
    assert set(re.split(r",\s*", refused.headers["allow"])) == allowed


class TestWithoutTokens:
    @pytest.fixture
    async def local(self, local_gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=local_gateway.url) as http:
            yield http

    async def test_this_machine_may_do_everything(self, local: httpx.AsyncClient) -> None:
        run = {"agent_id": "a", "session_id": "s", "input_text": "x", "run_id": "local"}
        assert (await local.post("/runs", json=run)).status_code == 202
        assert (await local.get("/runs/local")).json()["tenant"] == "default"
        assert "runlane_gateway_requests_total" in (await local.get("/metrics")).text

    @pytest.mark.parametrize(
        "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}], ids=str
    )
    async def test_pages_from_elsewhere_may_do_nothing(self, local: httpx.AsyncClient, headers: dict[str, str]) -> None:
        run = {"agent_id": "a", "session_id": "s", "input_text": "x", "run_id": "foreign"}
        refused = await local.post("/runs", json=run, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
        assert (await local.get("/runs/foreign")).status_code == 404

    def test_it_does_not_listen_for_others(self, store_url: str) -> None:
        ended = Command(RUNLANE_REDIS_URL=store_url)("gateway", "--host", "0.0.0.0", "--port", "0", timeout=20)
        assert ended.returncode == 2
        assert "runlane token" in ended.stderr


@pytest.fixture(scope="module")
def local_gateway(start_gateway: StartGateway) -> GatewayProcess:
    return start_gateway()


async def test_a_token_that_the_command_made_is_taken_when_it_is_in_the_file_and_never_logged(
    start_gateway: StartGateway, tokens: Tokens, tmp_path: Path
) -> None:
    made = Command()("token", "website", "--tenant", "shop", "-s", "runs:read", "--json")
    secret, entry = (json.loads(made.stdout)[name] for name in ("secret", "entry"))
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens: []")
    gateway = start_gateway("--tokens", str(file))
    async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {secret}"}) as http:
        assert (await http.get("/runs/r")).status_code == 401
        file.write_text(yaml.safe_dump({"tokens": [entry]}))

        async def taken() -> bool:
            return (await http.get("/runs/r")).status_code == 404

        await wait_until(taken, "the token is taken")
        file.write_text("tokens: [{")
        await wait_until(lambda: "stay as they were" in gateway.logged() or _asked(gateway, secret), "the log says why")
        assert await taken()
        assert (await http.post("/runs", json={})).status_code == 403
    assert secret not in gateway.logged()


def _asked(gateway: GatewayProcess, secret: str) -> bool:
    """The file is looked at when somebody asks."""
    httpx.get(f"{gateway.url}/runs/r", headers={"Authorization": f"Bearer {secret}"})
    return False


def test_a_file_of_tokens_that_cannot_be_read_stops_the_start(store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens:\n- name: web\n  hash: nothing\n  tenant: a\n  scopes: []\n")
    ended = Command(RUNLANE_REDIS_URL=store_url)("gateway", "--port", "0", "--tokens", str(file), timeout=20)
    assert ended.returncode == 2
    assert "tokens.0.hash" in ended.stderr
    assert str(file) in ended.stderr


async def test_while_redis_is_away_it_says_so_and_streams_go_on_when_it_is_back(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    run = {"agent_id": "a", "session_id": "s", "input_text": "x", "run_id": "outage"}
    with EmbeddedRedis(directory=tmp_path) as server:
        gateway = start_gateway(RUNLANE_REDIS_URL=server.url)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
            assert (await http.post("/runs", json=run)).status_code == 202
            async with http.stream("GET", "/runs/outage/stream") as stream:
                parts = stream.aiter_text()
                assert "run.queued" in await anext(parts)

                server.stop()
                for away in (await http.get("/readyz"), await http.post("/runs", json=run | {"run_id": "other"})):
                    assert (away.status_code, away.json()["code"]) == (503, "store.unavailable")
                    assert int(away.headers["retry-after"]) >= 1
                    assert away.json()["retryable"] is True
                    assert server.url.partition("://")[2] not in away.text
                assert (await http.get("/healthz")).status_code == 200

                server.start()
                assert (await http.post("/runs/outage/cancel")).json()["outcome"] == "cancelled"
                assert "event: run.finished" in "".join([part async for part in parts])
            assert (await http.get("/readyz")).status_code == 200


async def test_what_the_caller_cannot_help_shows_a_reference_to_the_log_and_nothing_else(
    start_gateway: StartGateway, store: Store
) -> None:
    async with store.client("default") as client:
        await client.check()
    gateway = start_gateway(RUNLANE_PARTITIONS=str(PARTITIONS // 2))
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        failed = await http.get("/runs/r")
        assert (failed.status_code, failed.json()["code"]) == (500, "error.unknown")
        reference = failed.json()["hint"].split()[-1]
        assert reference in gateway.logged()
        assert "partitions" in gateway.logged()
        assert "partitions" not in failed.text
        assert (await http.get("/readyz")).status_code == 503
