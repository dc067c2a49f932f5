"""Following runs over HTTP: Server-Sent Events, to leave and to come back to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer.gateway.tokens import Scope
from runtime_core.contracts.run import RunRequest, RunState
from runtime_core.ids import scoped_run_id
from tests.integration.attempt_by_hand import AttemptByHand
from tests.integration.fleet.conftest import wait_until
from tests.integration.gateway.conftest import GatewayProcess, StartGateway, Store, Tokens


@dataclass(frozen=True, kw_only=True)
class Event:
    cursor: str
    kind: str
    data: dict[str, Any]


def events_of(text: str) -> list[Event]:
    """What a stream said, without its comments; by the letter of what we promise, so that a changed form fails."""
    found: list[Event] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if any(lines):
            names = [line.partition(": ")[0] for line in lines]
            assert names == ["id", "event", "data"], block
            cursor, kind, data = (line.partition(": ")[2] for line in lines)
            found.append(Event(cursor=cursor, kind=kind, data=json.loads(data)))
    return found


class Follower:
    """A client that reads a stream while it goes on."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = ""
        self._parts = response.aiter_text()

    async def until(self, said: str) -> str:
        """All that came, at the latest with the part that holds ``said``."""
        async with asyncio.timeout(15):
            while said not in self.text:
                self.text += await anext(self._parts)
        return self.text

    async def rest(self) -> str:
        """All that came, when it has ended."""
        async with asyncio.timeout(15):
            async for part in self._parts:
                self.text += part
        return self.text


@asynccontextmanager
async def follow(http: httpx.AsyncClient, url: str, **headers: str) -> AsyncGenerator[Follower]:
    async with http.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Follower(response)


async def running(store: Store, run_id: str) -> AttemptByHand:
    """A run of acme that says what its test tells it to."""
    async with store.client("acme") as client:
        await client.submit(_request(run_id))
    return await store.begin(scoped_run_id("acme", run_id))


def _request(run_id: str) -> RunRequest:
    return RunRequest(agent_id="a", session_id=f"session {run_id}", input_text="x", run_id=run_id)


async def end(store: Store, attempt: AttemptByHand) -> None:
    await attempt.finish(final_output="done")
    await store.release(attempt)


async def test_a_finished_run_is_told_from_its_start_to_its_end(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("told"))
    answer = await http.get("/runs/told/stream")
    events = events_of(answer.text)
    assert [(event.cursor, event.kind) for event in events] == [
        ("1", "run.queued"),
        ("2", "run.started"),
        ("3", "llm.delta"),
        ("4", "run.finished"),
    ]
    for event in events:
        assert event.data["kind"] == event.kind
        assert str(event.data["sequence"]) == event.cursor
        assert "cursor" not in event.data
    assert events[-1].data["result"]["final_output"] == "done"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_a_chunk_comes_when_it_is_said_and_the_stream_ends_with_the_run(
    http: httpx.AsyncClient, store: Store
) -> None:
    attempt = await running(store, "live")
    async with follow(http, "/runs/live/stream") as client:
        await client.until("event: run.started")
        for word in ("one", "two\nlines", "drei €"):
            await attempt.emit("llm.delta", text=word)
            await client.until(json.dumps(word, ensure_ascii=False)[1:-1])
        await end(store, attempt)
        events = events_of(await client.rest())
    assert [event.data["payload"].get("text") for event in events[2:5]] == ["one", "two\nlines", "drei €"]
    assert [event.cursor for event in events] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("query", "header", "first"),
    [("", None, "1"), ("?after=2", None, "3"), ("?after=1", "3", "4"), ("", "2", "3"), ("?after=0", "", "1")],
)
async def test_who_comes_back_goes_on_behind_the_last_event_that_it_holds(
    http: httpx.AsyncClient, store: Store, query: str, header: str | None, first: str
) -> None:
    run_id = f"back-{query[7:]}-{header}"
    await store.finished_run("acme", _request(run_id))
    headers = {} if header is None else {"Last-Event-ID": header}
    answer = await http.get(f"/runs/{run_id}/stream{query}", headers=headers)
    assert events_of(answer.text)[0].cursor == first


async def test_who_asks_for_the_head_alone_gets_no_stream(http: httpx.AsyncClient) -> None:
    run = {"agent_id": "a", "session_id": "head", "input_text": "x", "run_id": "head"}
    await http.post("/runs", json=run)
    async with asyncio.timeout(5):
        answer = await http.head("/runs/head/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "runlane_gateway_clients 0.0" in (await http.get("/metrics")).text


async def test_who_holds_everything_is_told_to_stop_coming_back(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("complete"))
    answer = await http.get("/runs/complete/stream", headers={"Last-Event-ID": "4"})
    assert (answer.status_code, answer.text) == (204, "")
    assert (await http.get("/runs/complete/stream?after=4&children=true")).status_code == 204


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", "99999999999999999999", "1;nobody", "1;a/b=2", "%ff"])
async def test_a_cursor_that_no_event_had_is_refused(http: httpx.AsyncClient, store: Store, after: str) -> None:
    run_id = f"bad-cursor-{len(after)}-{after[:1].isalpha()}-{after[-1:].isdigit()}"
    await store.finished_run("acme", _request(run_id))
    refused = await http.get(f"/runs/{run_id}/stream?after={after}")
    assert (refused.status_code, refused.json()["code"]) == (400, "user.invalid_input")


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "running"])
async def test_a_cursor_behind_the_end_is_refused(http: httpx.AsyncClient, store: Store, finished: bool) -> None:
    run_id = f"behind-{finished}"
    attempt = await running(store, run_id)
    if finished:
        await end(store, attempt)
    for query in ("?after=900", "?after=900&children=true"):
        async with http.stream("GET", f"/runs/{run_id}/stream{query}") as refused:
            assert refused.status_code == 400, query
    if not finished:
        await end(store, attempt)


@pytest.mark.parametrize("leaves", ["continue", "cancel"])
async def test_who_leaves_cancels_the_run_only_if_asked(http: httpx.AsyncClient, leaves: str) -> None:
    run_id = f"left-by-{leaves}"
    await http.post("/runs", json=_request(run_id).model_dump(mode="json"))
    async with follow(http, f"/runs/{run_id}/stream?on_disconnect={leaves}") as client:
        await client.until("event: run.queued")

    async def finished() -> bool:
        return (await http.get(f"/runs/{run_id}")).json()["state"] == RunState.FINISHED

    if leaves == "cancel":
        await wait_until(finished, "the run is cancelled")
    else:
        assert not await finished()


async def test_to_cancel_by_leaving_needs_the_scope_to_cancel(
    http: httpx.AsyncClient, store: Store, tokens: Tokens
) -> None:
    await http.post("/runs", json=_request("unscoped").model_dump(mode="json"))
    reader = tokens.header("acme", *(scope for scope in Scope if scope is not Scope.RUNS_WRITE))
    refused = await http.get("/runs/unscoped/stream?on_disconnect=cancel", headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
    async with follow(http, "/runs/unscoped/stream", **reader) as client:
        await client.until("event: run.queued")


async def test_child_runs_come_in_between_on_request(http: httpx.AsyncClient, store: Store) -> None:
    parent = await running(store, "parent")
    await store.finished_run("acme", _request("child").model_copy(update={"parent_run_id": "parent"}))
    await end(store, parent)
    alone = events_of((await http.get("/runs/parent/stream")).text)
    assert {event.data["run_id"] for event in alone} == {"parent"}
    family = events_of((await http.get("/runs/parent/stream?children=true")).text)
    assert [event.data["sequence"] for event in family if event.data["run_id"] == "child"] == [1, 2, 3, 4]
    assert (family[-1].kind, family[-1].data["run_id"]) == ("run.finished", "parent")
    last_of_child = next(event for event in reversed(family) if event.data["run_id"] == "child")
    behind = family[family.index(last_of_child) + 1 :]
    again = await http.get("/runs/parent/stream?children=true", headers={"Last-Event-ID": last_of_child.cursor})
    assert events_of(again.text) == behind


class TestLimits:
    async def test_a_quiet_stream_sends_comments(self, small: httpx.AsyncClient) -> None:
        await small.post("/runs", json=_request("quiet").model_dump(mode="json"))
        async with follow(small, "/runs/quiet/stream") as client:
            text = await client.until(": \n\n: \n\n")
        assert [event.kind for event in events_of(text)] == ["run.queued"]

    async def test_more_streams_than_may_be_are_refused_until_one_ends(self, small: httpx.AsyncClient) -> None:
        await small.post("/runs", json=_request("crowded").model_dump(mode="json"))
        async with follow(small, "/runs/crowded/stream"), follow(small, "/runs/crowded/stream"):
            refused = await small.get("/runs/crowded/stream")
            assert (refused.status_code, refused.json()["code"]) == (429, "gateway.too_many_streams")
            assert int(refused.headers["retry-after"]) >= 1

        async def one_more() -> bool:
            async with small.stream("GET", "/runs/crowded/stream") as response:
                return response.status_code == 200

        await wait_until(one_more, "their places are free again")

    @pytest.fixture
    async def small(self, start_small: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=start_small.url, timeout=20) as client:
            yield client


@pytest.fixture(scope="module")
def start_small(start_gateway: StartGateway) -> GatewayProcess:
    """One with small limits."""
    return start_gateway(RUNLANE_GATEWAY_TENANT_STREAMS="2", RUNLANE_GATEWAY_HEARTBEAT_S="0.1")


async def test_a_gateway_that_is_stopped_ends_its_streams_and_another_goes_on(
    start_gateway: StartGateway, store: Store, tokens: Tokens
) -> None:
    attempt = await running(store, "moved")
    first, second = (start_gateway("--tokens", str(tokens.file)) for _ in range(2))
    async with (
        httpx.AsyncClient(base_url=first.url, headers=tokens.header("acme"), timeout=20) as http,
        follow(http, "/runs/moved/stream") as client,
    ):
        await attempt.emit("llm.delta", text="before")
        await client.until("before")
        began = time.monotonic()
        assert await asyncio.to_thread(first.stop) == 0
        assert time.monotonic() - began < 5
        text = await client.rest()
    said, _, farewell = text.partition("event: stream.cut\n")
    assert farewell == 'data: {"reason":"closing"}\n\n', "it has no id: the client still holds that of the last chunk"
    await attempt.emit("llm.delta", text="after")
    await end(store, attempt)
    async with httpx.AsyncClient(base_url=second.url, headers=tokens.header("acme"), timeout=20) as http:
        held = events_of(said)
        rest = await http.get("/runs/moved/stream", headers={"Last-Event-ID": held[-1].cursor})
        whole = await http.get("/runs/moved/stream")
    assert held + events_of(rest.text) == events_of(whole.text)


async def test_a_withdrawn_token_ends_its_streams_and_no_other(
    start_gateway: StartGateway, store: Store, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens.json").add("acme").add("acme", Scope.RUNS_READ)
    gateway = start_gateway("--tokens", str(tokens.file))
    attempt = await running(store, "read-by-two")
    stays, goes = tokens.header("acme"), tokens.header("acme", Scope.RUNS_READ)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        follow(http, "/runs/read-by-two/stream", **stays) as reader,
        follow(http, "/runs/read-by-two/stream", **goes) as former,
    ):
        tokens.withdraw("acme", Scope.RUNS_READ)
        text = await former.rest()
        assert text.endswith('event: stream.cut\ndata: {"reason":"withdrawn"}\n\n')
        assert (await http.get("/runs/read-by-two", headers=goes)).status_code == 401
        await end(store, attempt)
        assert events_of(await reader.rest())[-1].kind == "run.finished"
