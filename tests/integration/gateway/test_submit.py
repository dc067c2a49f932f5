"""Runs over HTTP: submit, wait, look, cancel."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from runtime_core.contracts.run import RunState, StopReason
from runtime_core.ids import idempotent_run_id, scoped_run_id
from tests.integration.fleet.conftest import wait_until
from tests.integration.gateway.conftest import GatewayProcess, StartGateway, Store


def run(name: str, **changes: Any) -> dict[str, Any]:
    return {"agent_id": "a", "session_id": f"session {name}", "input_text": "x", "run_id": name} | changes


def without_id(name: str) -> dict[str, Any]:
    return {"agent_id": "a", "session_id": f"session {name}", "input_text": "x"}


async def test_a_run_is_accepted_and_found_at_its_location(http: httpx.AsyncClient) -> None:
    accepted = await http.post("/runs", json=run("first"))
    assert accepted.status_code == 202
    assert accepted.json() == {"run_id": "first", "session_id": "session first", "agent_id": "a", "created": True}
    record = await http.get(accepted.headers["location"])
    assert record.status_code == 200
    assert record.json()["state"] == "queued"
    assert record.json()["tenant"] == "acme"


async def test_the_same_run_again_is_the_same_run_and_another_under_its_id_a_conflict(http: httpx.AsyncClient) -> None:
    await http.post("/runs", json=run("again"))
    again = await http.post("/runs", json=run("again"))
    assert (again.status_code, again.json()["created"]) == (202, False)
    other = await http.post("/runs", json=run("again", input_text="other"))
    assert (other.status_code, other.json()["code"]) == (409, "run.conflict")


async def test_an_idempotency_key_becomes_the_run_id(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = await http.post("/runs", json=without_id("keyed"), headers=key)
    again = await http.post("/runs", json=without_id("keyed"), headers=key)
    assert first.json()["run_id"] == again.json()["run_id"] == idempotent_run_id("acme", "order-17")
    assert [first.json()["created"], again.json()["created"]] == [True, False]
    other = await http.post("/runs", json=without_id("keyed otherwise"), headers=key)
    assert other.status_code == 409
    both = await http.post("/runs", json=run("keyed"), headers=key)
    assert both.status_code == 400
    assert "run_id" in both.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\tbed", "\xe9"])
async def test_an_idempotency_key_is_visible_ascii(http: httpx.AsyncClient, key: str) -> None:
    refused = await http.post(
        "/runs", json=without_id("bad key"), headers=[(b"Idempotency-Key", key.encode("latin-1"))]
    )
    assert refused.status_code == 400
    assert "Idempotency-Key" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b"\xff\xfe", "body"),
        (b'{"agent_id": "a", "session_id": "s", "input_text": "\\ud800"}', "body"),
        (json.dumps(run("x") | {"session": "s"}).encode(), "session_id"),
        (json.dumps(run("x") | {"run_id": "a/b"}).encode(), "run_id"),
        (json.dumps(run("x") | {"session_id": "é" * 257}).encode(), "514 bytes"),
        (json.dumps(run("x") | {"queue_deadline_ms": 0}).encode(), "queue_deadline_ms"),
        (json.dumps(run("x") | {"context_hints": {"__traceparent__": "00-1"}}).encode(), "__traceparent__"),
        (json.dumps(run("x") | {"deps": {"a": 1}}).encode(), "deps"),
        (b"[" * 100_000, "body"),
    ],
)
async def test_a_body_that_is_no_run_is_refused_with_what_is_wrong(
    http: httpx.AsyncClient, body: bytes, named: str
) -> None:
    refused = await http.post("/runs", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400, refused.text
    assert refused.json()["code"] == "user.invalid_input"
    assert named in refused.json()["detail"] + str(refused.json().get("hint"))


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_of_another_type_is_refused(http: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    refused = await http.post("/runs", content=json.dumps(run("typed")), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "request.unsupported_media_type")


async def test_json_with_a_charset_is_taken(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await http.post("/runs", content=json.dumps(run("charset")), headers=headers)).status_code == 202


async def test_who_waits_gets_the_record_with_its_result(http: httpx.AsyncClient, store: Store) -> None:
    waiting = asyncio.create_task(http.post("/runs?wait=15", json=run("awaited")))
    await _is_known(http, "awaited")
    attempt = await store.begin(scoped_run_id("acme", "awaited"))
    await attempt.finish(final_output={"answer": 42})
    answered = await waiting
    assert answered.status_code == 200
    assert answered.headers["location"] == "/runs/awaited"
    assert answered.json()["result"]["final_output"] == {"answer": 42}
    again = await http.post("/runs?wait=15", json=run("awaited"))
    assert (again.status_code, again.json()["status"]) == (200, "completed")


async def test_who_waited_in_vain_is_told_where_to_look(http: httpx.AsyncClient) -> None:
    answered = await http.post("/runs?wait=0.1", json=run("in-vain"))
    assert (answered.status_code, answered.headers["location"]) == (202, "/runs/in-vain")


@pytest.mark.parametrize(
    "query", ["wait=61", "wait=-1", "wait=nan", "wait=x", "wait=1&wait=2", "wiat=1", "on_disconnect=x"]
)
async def test_a_query_that_cannot_be_meant_is_refused_before_anything_is_done(
    http: httpx.AsyncClient, query: str
) -> None:
    refused = await http.post(f"/runs?{query}", json=run("not-submitted"))
    assert (refused.status_code, refused.json()["code"]) == (400, "user.invalid_input")
    assert query.partition("=")[0] in refused.json()["detail"]
    assert (await http.get("/runs/not-submitted")).status_code == 404


@pytest.mark.parametrize("leaves", ["continue", "cancel"])
async def test_who_leaves_while_waiting_cancels_the_run_only_if_asked(http: httpx.AsyncClient, leaves: str) -> None:
    name = f"left-{leaves}"
    waiting = asyncio.create_task(http.post(f"/runs?wait=30&on_disconnect={leaves}", json=run(name)))
    await _is_known(http, name)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    if leaves == "cancel":
        await wait_until(lambda: _state_is(http, name, RunState.FINISHED), "the run is cancelled")
        assert (await http.get(f"/runs/{name}")).json()["status"] == StopReason.CANCELLED
    else:
        assert (await http.get(f"/runs/{name}")).json()["state"] == RunState.QUEUED


async def test_cancel_says_what_it_met(http: httpx.AsyncClient) -> None:
    await http.post("/runs", json=run("cancelled"))
    first = await http.post("/runs/cancelled/cancel")
    again = await http.post("/runs/cancelled/cancel")
    assert [first.status_code, again.status_code] == [200, 200]
    assert first.json() == {"run_id": "cancelled", "outcome": "cancelled"}
    assert again.json()["outcome"] == "finished"
    assert (await http.get("/runs/cancelled")).json()["status"] == "cancelled"


@pytest.mark.parametrize("path", ["/runs/nobodys", "/runs/nobodys/stream"])
async def test_a_run_that_is_not_there_is_not_found(http: httpx.AsyncClient, path: str) -> None:
    missing = await http.get(path)
    assert (missing.status_code, missing.json()["code"]) == (404, "run.not_found")
    assert missing.json()["hint"]


async def test_a_run_id_that_cannot_be_one_is_refused(http: httpx.AsyncClient) -> None:
    refused = await http.get("/runs/a%2Fb")
    assert (refused.status_code, refused.json()["code"]) == (400, "user.invalid_input")


@pytest.fixture(scope="module")
def small_gateway(start_gateway: StartGateway) -> GatewayProcess:
    return start_gateway(
        RUNLANE_GATEWAY_BODY_BYTES="1000", RUNLANE_GATEWAY_REQUEST_S="0.3", RUNLANE_SESSION_QUEUE_LIMIT="2"
    )


@pytest.fixture
async def small(small_gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Asks a gateway with small limits."""
    async with httpx.AsyncClient(base_url=small_gateway.url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused_however_it_comes(small: httpx.AsyncClient, chunked: bool) -> None:
    body = json.dumps(run("large", input_text="x" * 10_000)).encode()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    headers = {"Content-Type": "application/json"}
    refused = await small.post("/runs", content=parts() if chunked else body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "request.too_large")
    assert "1000" in refused.json()["detail"]


async def test_a_body_that_does_not_come_is_not_waited_for(small: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(small.base_url.host, small.base_url.port)
    head = f"POST /runs HTTP/1.1\r\nHost: {small.base_url.netloc.decode()}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    async with asyncio.timeout(10):
        status, _, _ = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    writer.close()
    assert b" 408 " in status


async def test_a_full_session_says_when_to_try_again(small: httpx.AsyncClient) -> None:
    for number in range(2):
        accepted = await small.post("/runs", json=run(f"full-{number}", session_id="full"))
        assert accepted.status_code == 202
    refused = await small.post("/runs", json=run("full-2", session_id="full"))
    assert (refused.status_code, refused.json()["code"]) == (429, "queue.full")
    assert refused.json()["retryable"] is True
    assert int(refused.headers["retry-after"]) * 1000 >= refused.json()["retry_after_ms"] > 0


async def _is_known(http: httpx.AsyncClient, run_id: str) -> None:
    async def known() -> bool:
        return (await http.get(f"/runs/{run_id}")).status_code == 200

    await wait_until(known, f"{run_id} is submitted")


async def _state_is(http: httpx.AsyncClient, run_id: str, state: RunState) -> bool:
    return (await http.get(f"/runs/{run_id}")).json()["state"] == state


async def test_a_run_belongs_to_the_trace_of_the_request_that_submits_it(http: httpx.AsyncClient, store: Store) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"agent_id": "a", "session_id": "traced", "input_text": "x", "run_id": "traced"}
    assert (await http.post("/runs", json=body, headers={"traceparent": parent})).status_code == 202
    async with store.client("acme") as client:
        request = (await client.story("traced")).request
    assert request is not None
    assert request.context_hints == {"__traceparent__": parent}
