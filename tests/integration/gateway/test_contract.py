"""The OpenAPI document and the gateway agree: requests are made from the one, answers of the other held to it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from producer.gateway.app import OPERATIONS
from producer.gateway.operations import Operation
from runtime_core.contracts.run import RunRequest
from runtime_core.ids import new_run_id, scoped_run_id
from tests.integration.gateway.conftest import GatewayProcess, Store, Tokens

#: What is there to be found: generated ids alone would meet nothing.
_KNOWN = {"run_id": "known", "session_id": "known session", "agent_id": "known"}
_ASKING = {"run_id": "known-to-ask", "call_id": "known"}
#: They ask the workers, of which there are none here; tests of the whole fleet ask them too.
_NEED_WORKERS = {"/agents", "/agents/{agent_id}"}
#: Per operation, with data of either kind.
_REQUESTS = 12
_COPIES = itertools.count()


@pytest.fixture(scope="module")
def document(gateway: GatewayProcess) -> Any:
    """As it is served, but for the tokens: requests without one have tests of their own."""
    served = httpx.get(f"{gateway.url}/openapi.json").json()
    for operations in served["paths"].values():
        for operation in operations.values():
            del operation["security"]
    return schemathesis.openapi.from_dict(served)


def test_the_document_lists_what_is_served_and_nothing_else(document: Any) -> None:
    listed = {(method.upper(), path) for path, methods in document.raw_schema["paths"].items() for method in methods}
    assert listed == {(operation.method, operation.path) for operation in OPERATIONS}


def _label(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


class Asking:
    """Requests that are made of the document, and the statuses that they met."""

    def __init__(self, operation: Operation, document: Any, url: str, headers: dict[str, str]) -> None:
        self._operation = operation
        self._described = document[operation.path][operation.method.lower()]
        self._url = url
        self._headers = headers
        #: An answer without workers is no answer, but a documented one.
        self._tolerated = [not_a_server_error] if operation.path in _NEED_WORKERS else []
        self.seen: Counter[int] = Counter()

    def everything(self, mode: GenerationMode, *, known: bool) -> None:
        """Raises FailureGroup for an answer that the document does not know, AssertionError for one without sense."""

        @seed(1)
        @settings(max_examples=_REQUESTS, database=None)
        @given(case=self._described.as_strategy(generation_mode=mode), of_known=st.booleans())
        def ask(case: Any, of_known: bool) -> None:
            if known:
                _make_sensible(case, of_known)
            answer = case.call(base_url=self._url, headers=self._headers, timeout=10)
            self.seen[answer.status_code] += 1
            case.validate_response(answer, excluded_checks=self._tolerated)

        ask()


def _make_sensible(case: Any, of_known: bool) -> None:
    """Ask for what is there, and leave out what no document can forbid: what two places say together."""
    if of_known:
        known = _ASKING if "call_id" in case.path_parameters else _KNOWN
        case.path_parameters.update({name: known[name] for name in case.path_parameters})
    if "wait" in case.query:
        case.query["wait"] = 0.01
    if isinstance(case.body, dict) and "run_id" in case.body:
        case.headers.pop("Idempotency-Key", None)
    if case.operation.path.endswith("/fork"):  # a session that other requests have made is no target
        case.body["session_id"] = f"copy {next(_COPIES)}"
    if case.operation.path.endswith("/stream"):
        case.headers.pop("Last-Event-ID", None)
        case.query.update({"after": "2"} if "after" in case.query else {})


@pytest.mark.parametrize("operation", OPERATIONS, ids=_label)
async def test_what_the_document_allows_is_answered_as_it_says(
    operation: Operation, document: Any, gateway: GatewayProcess, tokens: Tokens, store: Store
) -> None:
    await _make_known(store)
    asking = Asking(operation, document, gateway.url, tokens.header("acme"))
    await asyncio.to_thread(asking.everything, GenerationMode.POSITIVE, known=True)
    expected = {503} if operation.path in _NEED_WORKERS else {int(status) for status in operation.answers}
    assert asking.seen.keys() & expected, f"it never succeeded: {asking.seen}"


async def test_what_only_workers_know_is_said_to_be_unavailable_without_them(
    gateway: GatewayProcess, tokens: Tokens
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, headers=tokens.header("acme")) as http:
        answer = await http.get("/agents")
    assert (answer.status_code, answer.json()["code"]) == (503, "fleet.unavailable")


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if "{" in each.path or each.query], ids=_label)
async def test_what_the_document_does_not_allow_is_refused_as_it_says(
    operation: Operation, document: Any, gateway: GatewayProcess, tokens: Tokens
) -> None:
    asking = Asking(operation, document, gateway.url, tokens.header("acme"))
    await asyncio.to_thread(asking.everything, GenerationMode.NEGATIVE, known=False)
    assert asking.seen, "nothing was asked"


async def _make_known(store: Store) -> None:
    """A finished run and its session, if a test before has not left them or has removed them; and one that asks."""
    async with store.client("acme") as client:
        asking = await client.submit(agent_id="a", session_id="asks", input_text="x", run_id=_ASKING["run_id"])
        if asking.created:
            attempt = await store.begin(scoped_run_id("acme", asking.run_id))
            await attempt.ask(_ASKING["call_id"])
            await store.release(attempt)
        request = RunRequest(agent_id="a", session_id=_KNOWN["session_id"], input_text="x", run_id=_KNOWN["run_id"])
        handle = await client.submit(request)
        if not handle.created:
            if await client.messages(request.session_id):
                return
            request = request.model_copy(update={"run_id": new_run_id()})
    await store.finished_run("acme", request, messages=("said",))
