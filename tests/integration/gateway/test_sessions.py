"""Sessions over HTTP: what they keep, their transcript, and forgetting them."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from runtime_core.contracts.run import RunRequest
from tests.integration.gateway.conftest import Store


def _request(session_id: str, run_id: str) -> RunRequest:
    return RunRequest(agent_id="a", session_id=session_id, input_text="x", run_id=run_id)


async def test_a_session_says_what_it_keeps_and_what_waits_in_it(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("kept", "kept-1"), messages=("one", "two"))
    await http.post("/runs", json=_request("kept", "kept-2").model_dump(mode="json"))
    session = (await http.get("/sessions/kept")).json()
    assert (session["session_id"], session["messages"], session["pending"]) == ("kept", 2, 1)
    assert session["run_ids"] == ["kept-2"]
    assert session["config_version"] == 1
    assert session["last_run_ms"] > 0


async def test_a_transcript_is_read_in_pages(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("long", "long-1"), messages=tuple("abcde"))
    pages: list[list[str]] = []
    after = 0
    for _ in range(3):
        page = (await http.get("/sessions/long/messages", params={"after": after, "limit": 2})).json()
        pages.append([message["content"] for message in page["messages"]])
        after = page["next_after"]
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    end = await http.get("/sessions/long/messages", params={"after": after})
    assert (end.status_code, end.json()) == (200, {"messages": [], "next_after": 5})


async def test_a_forgotten_session_is_gone_and_begins_anew(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("forgotten", "forgotten-1"), messages=("secret",))
    deleted = await http.delete("/sessions/forgotten")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in ("/sessions/forgotten", "/sessions/forgotten/messages"):
        assert (await http.get(path)).json()["code"] == "session.not_found"
    assert (await http.delete("/sessions/forgotten")).status_code == 404
    assert (await http.get("/runs/forgotten-1")).status_code == 200, "records of its runs stay"
    await http.post("/runs", json=_request("forgotten", "forgotten-2").model_dump(mode="json"))
    assert (await http.get("/sessions/forgotten")).json()["messages"] == 0


async def test_a_session_is_copied_once(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("original", "original-1"), messages=("said",))
    forked = await http.post("/sessions/original/fork", json={"session_id": "a/copy"})
    assert (forked.status_code, forked.headers["Location"]) == (201, "/sessions/a%2Fcopy")
    copy = (await http.get(f"{forked.headers['Location']}/messages")).json()
    assert [message["content"] for message in copy["messages"]] == ["said"]
    again = await http.post("/sessions/original/fork", json={"session_id": "a/copy"})
    assert (again.status_code, again.json()["code"]) == (409, "session.error")
    assert (await http.post("/sessions/nobody/fork", json={"session_id": "x"})).status_code == 404


async def test_artifacts_and_checkpoints_are_listed(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("made", "made-1"), messages=("said",))
    async with store.client("acme") as client:
        await client.create_checkpoint("made", "mine")
    assert (await http.get("/sessions/made/artifacts")).json() == {"artifacts": []}
    assert (await http.get("/sessions/made/checkpoints")).json() == {"checkpoints": ["mine"]}
    for part in ("artifacts", "checkpoints"):
        assert (await http.get(f"/sessions/nobody/{part}")).status_code == 404


async def test_a_session_with_an_unfinished_run_is_not_forgotten(http: httpx.AsyncClient, store: Store) -> None:
    await store.finished_run("acme", _request("busy", "busy-1"), messages=("kept",))
    await http.post("/runs", json=_request("busy", "busy-2").model_dump(mode="json"))
    refused = await http.delete("/sessions/busy")
    assert (refused.status_code, refused.json()["code"]) == (409, "session.error")
    assert (await http.get("/sessions/busy")).json()["messages"] == 1


@pytest.mark.parametrize(
    "session_id",
    ["a/b", "a/messages", "a%2Fb", "50%", "..", ".", "a?b#c", "é 💬", " ", "+", "a\\b", "a\nb", "/", "//x"],
)
async def test_any_text_is_a_session_id(http: httpx.AsyncClient, store: Store, session_id: str) -> None:
    run_id = "any-" + session_id.encode().hex()
    await store.finished_run("acme", _request(session_id, run_id), messages=("said",))
    # A dot alone is what clients cut out of paths, unless it is encoded too.
    encoded = quote(session_id, safe="").replace(".", "%2E")
    session = await http.get(f"/sessions/{encoded}")
    assert (session.status_code, session.json().get("session_id")) == (200, session_id), session.text
    messages = await http.get(f"/sessions/{encoded}/messages")
    assert [message["content"] for message in messages.json()["messages"]] == ["said"]
    assert (await http.delete(f"/sessions/{encoded}")).status_code == 204


@pytest.mark.parametrize("path", ["/sessions/%ff", "/sessions/%ff/messages", f"/sessions/{'x' * 513}", "/runs/%c3%28"])
async def test_a_path_that_cannot_be_an_id_is_refused(http: httpx.AsyncClient, path: str) -> None:
    refused = await http.get(path)
    assert (refused.status_code, refused.json()["code"]) == (400, "user.invalid_input")


@pytest.mark.parametrize(
    "query", ["after=-1", "limit=0", "limit=1001", "after=x", "limit=", "offset=1", "after=1&after=2"]
)
async def test_a_page_that_cannot_be_meant_is_refused(http: httpx.AsyncClient, query: str) -> None:
    refused = await http.get(f"/sessions/any/messages?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "user.invalid_input")
    assert query.partition("=")[0] in refused.json()["detail"]
