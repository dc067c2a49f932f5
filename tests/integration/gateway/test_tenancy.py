"""No tenant sees, follows, cancels or changes what another has: over every operation that names a run or a session."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from producer.client import AsyncClient
from producer.gateway.app import OPERATIONS
from producer.gateway.operations import PATH_PARAMETERS, Operation
from producer.gateway.routes.approvals import Said
from producer.gateway.routes.sessions import Fork
from producer.gateway.tokens import Scope
from runtime_core.contracts.run import RunRequest, RunState
from tests.integration.gateway.conftest import GatewayProcess, Store, Tokens

#: Agents are the fleet's: every tenant may run them. A parameter that is in neither set fails the first test.
_OF_A_TENANT = {"run_id", "session_id", "call_id"}
_OF_THE_FLEET = {"agent_id"}


def _names(operation: Operation, parameters: set[str]) -> bool:
    return any(f"{{{parameter}}}" in operation.path for parameter in parameters)


OWNED = [operation for operation in OPERATIONS if _names(operation, _OF_A_TENANT)]


def _label(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_for_every_parameter_of_a_path_it_is_known_whose_it_is() -> None:
    assert set(PATH_PARAMETERS) == _OF_A_TENANT | _OF_THE_FLEET


async def _snapshot(client: AsyncClient, run_id: str, session_id: str) -> list[Any]:
    return [
        await client.get(run_id),
        replace(await client.session(session_id), expires_in_s=None),  # which is less after every second
        await client.messages(session_id),
    ]


@pytest.mark.parametrize("queued", [False, True], ids=["finished", "queued"])
@pytest.mark.parametrize("operation", OWNED, ids=_label)
async def test_what_another_tenant_has_is_not_there(
    operation: Operation, queued: bool, store: Store, tokens: Tokens, gateway: GatewayProcess
) -> None:
    session_id = f"session {OWNED.index(operation)} {queued}"
    run_id = first_id = f"run-{OWNED.index(operation)}-{queued}"
    first = RunRequest(agent_id="a", session_id=session_id, input_text="x", run_id=first_id)
    await store.finished_run("acme", first, messages=("secret",))
    async with store.client("acme") as owner, httpx.AsyncClient(base_url=gateway.url) as http:
        if queued:
            run_id = f"{first_id}-next"
            await owner.submit(agent_id="a", session_id=session_id, input_text="x", run_id=run_id)
        before = await _snapshot(owner, run_id, session_id)
        url = operation.path.format(run_id=run_id, session_id=quote(session_id), call_id="c1")
        url_of_nobody = operation.path.format(run_id="nobodys", session_id="nobodys", call_id="c1")
        bodies: dict[Any, dict[str, str]] = {Said: {"decision": "allow"}, Fork: {"session_id": f"copy of {session_id}"}}
        body = bodies[operation.body] if operation.body else None

        refused = await http.request(operation.method, url, headers=tokens.header("other"), json=body)
        missing = await http.request(operation.method, url_of_nobody, headers=tokens.header("other"), json=body)

        assert refused.status_code == 404, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json().keys() == missing.json().keys()
        assert [refused.json()[name] for name in ("code", "hint")] == [
            missing.json()[name] for name in ("code", "hint")
        ]
        assert "secret" not in refused.text
        assert await _snapshot(owner, run_id, session_id) == before

        if not (queued and operation.path.endswith("/stream")):  # it would go on for as long as the run is queued
            allowed = await http.request(operation.method, url, headers=tokens.header("acme"), json=body)
            assert allowed.status_code in _expected(operation, queued=queued), allowed.text


def _expected(operation: Operation, *, queued: bool) -> set[HTTPStatus]:
    """What its owner is answered."""
    if "{call_id}" in operation.path:  # it asks for nothing
        return {HTTPStatus.BAD_REQUEST if queued else HTTPStatus.CONFLICT}
    return {HTTPStatus.CONFLICT} if queued and operation.method == "DELETE" else {*operation.answers}


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.scope], ids=_label)
async def test_without_a_known_token_or_without_its_scope_nothing_is_done(
    operation: Operation, tokens: Tokens, gateway: GatewayProcess
) -> None:
    url = operation.path.format(run_id="r", session_id="s", agent_id="a", call_id="c")
    assert operation.scope is not None
    others = [scope for scope in Scope if scope is not operation.scope]
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        nobody = await http.request(operation.method, url)
        stranger = await http.request(operation.method, url, headers={"Authorization": "Bearer rl_guess"})
        lacking = await http.request(operation.method, url, headers=tokens.header("acme", *others))
    for refused in (nobody, stranger):
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["code"] == "auth.unauthenticated"
    assert lacking.status_code == 403
    assert operation.scope in lacking.json()["detail"]


async def test_the_same_names_of_two_tenants_are_two_runs(
    http: httpx.AsyncClient, tokens: Tokens, store: Store
) -> None:
    run = {"agent_id": "a", "session_id": "shared name", "input_text": "x", "run_id": "shared-name"}
    first = await http.post("/runs", json=run)
    second = await http.post("/runs", json=run | {"input_text": "y"}, headers=tokens.header("other"))
    assert [first.status_code, second.status_code] == [202, 202]
    assert second.json()["created"] is True
    cancelled = await http.post("/runs/shared-name/cancel", headers=tokens.header("other"))
    assert cancelled.status_code == 200
    async with store.client("acme") as owner:
        assert (await owner.get("shared-name")).state is RunState.QUEUED


async def test_the_same_idempotency_key_of_two_tenants_is_two_runs(http: httpx.AsyncClient, tokens: Tokens) -> None:
    run, key = {"agent_id": "a", "session_id": "keyed", "input_text": "x"}, {"Idempotency-Key": "order-1"}
    first = await http.post("/runs", json=run, headers=key)
    second = await http.post("/runs", json=run, headers=key | tokens.header("other"))
    assert first.json()["run_id"] != second.json()["run_id"]
    assert second.json()["created"] is True


async def test_a_run_that_names_another_tenants_run_as_its_parent_does_not_appear_in_its_stream(
    http: httpx.AsyncClient, tokens: Tokens, store: Store
) -> None:
    parent = RunRequest(agent_id="a", session_id="with a guest", input_text="x", run_id="parent")
    await store.finished_run("acme", parent)
    child = {"agent_id": "a", "session_id": "uninvited", "input_text": "x", "run_id": "uninvited"}
    await http.post("/runs", json=child | {"parent_run_id": "parent"}, headers=tokens.header("other"))
    stream = await http.get("/runs/parent/stream?children=true")
    assert stream.status_code == 200
    assert "run.finished" in stream.text
    assert "uninvited" not in stream.text


async def test_no_request_can_name_its_tenant(http: httpx.AsyncClient) -> None:
    run = {"agent_id": "a", "session_id": "s", "input_text": "x", "tenant": "other"}
    refused = await http.post("/runs", json=run)
    assert refused.status_code == 400
    assert "tenant" in refused.json()["detail"]
