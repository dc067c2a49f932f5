"""The redis session plugin against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope, current_scope
from runtime_core.contracts.run import RunRequest
from runtime_core.contracts.session import SessionArtifact
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import SessionError
from runtime_core.ids import SessionKey
from runtime_core.plugins.builtin.session.redis import RedisSession
from runtime_core.plugins.builtin.session.warm_transcripts import WarmTranscripts
from runtime_core.store.connection import connect, connect_sync
from runtime_core.store.runs import RunStore


class ListWriter:
    """A SessionWriter that keeps what is staged in a list."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.calls = 0

    async def stage(self, entries: list[list[str]]) -> None:
        self.calls += 1
        self.written.extend(entries)

    async def staged(self) -> list[list[str]]:
        return []


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def sessions(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisSession]:
    monkeypatch.setenv("RUNLANE_REDIS_URL", server.url)
    client = connect(server.url)
    await client.flushdb()
    await client.aclose()
    sessions = RedisSession()
    yield sessions
    await sessions.close()


def enter(scope: RunScope) -> None:
    """The rest of the test executes in ``scope``; each test has a context of its own."""
    current_scope.set(scope)


async def write(sessions: RedisSession) -> None:
    await sessions.set_state("s", {"turns": 1, "name": "Ada"})
    await sessions.append_message("s", {"role": "user", "content": "hello"})
    await sessions.save_artifact("s", SessionArtifact(name="report", payload={"pages": 2}))


async def test_another_process_sees_what_was_written(sessions: RedisSession) -> None:
    await write(sessions)

    other = RedisSession()
    assert await other.get_state("s") == {"turns": 1, "name": "Ada"}
    assert await other.load_messages("s") == [{"role": "user", "content": "hello"}]
    assert [artifact.payload for artifact in await other.list_artifacts("s")] == [{"pages": 2}]
    await other.close()


async def test_a_state_is_changed_field_by_field_and_a_session_deleted(sessions: RedisSession) -> None:
    await write(sessions)

    await sessions.set_state("s", {"turns": 2})
    assert await sessions.get_state("s") == {"turns": 2}

    await sessions.delete_session("s")
    assert await sessions.get_state("s") == {}
    assert await sessions.load_messages("s") == []


async def test_an_attempt_stages_and_sees_its_own_writes_and_nobody_else_does(sessions: RedisSession) -> None:
    await sessions.append_message("s", {"content": "before"})
    writer = ListWriter()
    enter(RunScope(writer=writer))

    async with sessions.session("s") as state:
        await sessions.set_state("s", state | {"turns": 1})
        await sessions.append_message("s", {"content": "during"})
        assert await sessions.get_state("s") == {"turns": 1}
        assert [message["content"] for message in await sessions.load_messages("s")] == ["before", "during"]

    assert [kind for kind, _, _ in writer.written] == ["set", "message"]
    assert writer.calls == 1, "each stage is a round trip"
    enter(RunScope())
    assert await sessions.get_state("s") == {}
    assert [message["content"] for message in await sessions.load_messages("s")] == ["before"]


async def test_a_cancelled_attempt_leaves_its_session_as_it_was(sessions: RedisSession) -> None:
    writer = ListWriter()
    enter(RunScope(writer=writer))

    async def think() -> None:
        async with sessions.session("s"):
            await sessions.append_message("s", {"content": "half a thought"})
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await think()

    assert writer.written == []


async def test_what_a_run_leaves_behind_writes_no_more(sessions: RedisSession) -> None:
    enter(RunScope(writer=ListWriter()))
    left = asyncio.Event()

    async def late() -> None:
        await left.wait()
        await sessions.append_message("s", {"content": "too late"})

    async with sessions.session("s"):
        task = asyncio.create_task(late())
    left.set()

    with pytest.raises(SessionError, match="left its session"):
        await task


async def test_what_an_attempt_writes_to_another_session_is_not_staged_with_its_own(sessions: RedisSession) -> None:
    writer = ListWriter()
    enter(RunScope(writer=writer))

    async with sessions.session("s"):
        await sessions.append_message("elsewhere", {"content": "note"})
        assert await sessions.load_messages("s") == []

    assert writer.written == []
    assert await sessions.load_messages("elsewhere") == [{"content": "note"}]


async def test_a_session_with_an_unfinished_run_cannot_be_edited_from_outside(
    sessions: RedisSession, server: EmbeddedRedis
) -> None:
    client = connect(server.url)
    assert await sessions.get_state("s") == {}
    await RunStore(client, 64).submit(RunRequest(agent_id="a", session_id="s", input_text="x"))

    with pytest.raises(SessionError, match="unfinished run"):
        await sessions.append_message("s", {"content": "meanwhile"})

    await client.aclose()


async def test_two_tenants_may_use_the_same_session_name(sessions: RedisSession) -> None:
    await write(sessions)

    enter(RunScope(tenant="acme"))

    assert await sessions.get_state("s") == {}
    assert await sessions.list_sessions() == []


async def test_a_value_that_json_cannot_hold_is_refused(sessions: RedisSession) -> None:
    with pytest.raises(SessionError, match="JSON"):
        await sessions.set_state("s", {"handle": object()})


async def test_a_later_read_of_a_transcript_fetches_only_what_is_new(
    sessions: RedisSession, server: EmbeddedRedis
) -> None:
    for number in range(3):
        await sessions.append_message("s", {"role": "user", "content": number})
    await sessions.load_messages("s")
    await sessions.append_message("s", {"role": "user", "content": 3})
    with connect_sync(server.url) as redis:
        redis.config_set("slowlog-log-slower-than", 0)
        messages = await sessions.load_messages("s")
        redis.config_set("slowlog-log-slower-than", -1)
        entries: Any = redis.slowlog_get(50)

    assert [message["content"] for message in messages] == [0, 1, 2, 3]
    reads = [entry["command"].split() for entry in entries if entry["command"].startswith(b"LRANGE")]
    assert [read[-2:] for read in reads] == [[b"2", b"-1"]]
    messages[0]["content"] = "changed by who read it"
    assert (await sessions.load_messages("s"))[0]["content"] == 0


async def test_a_transcript_that_began_anew_or_lost_its_end_is_read_anew(
    sessions: RedisSession, server: EmbeddedRedis
) -> None:
    async def says(*contents: str) -> None:
        for content in contents:
            await sessions.append_message("s", {"role": "user", "content": content})

    async def said() -> list[str]:
        return [message["content"] for message in await sessions.load_messages("s")]

    await says("a", "same")
    assert await said() == ["a", "same"]
    await sessions.delete_session("s")
    await says("b", "same", "c")
    assert await said() == ["b", "same", "c"]
    with connect_sync(server.url) as redis:
        (transcript,) = redis.scan_iter("*:transcript")
        redis.ltrim(transcript, 0, 0)
    await says("d", "e", "f")
    assert await said() == ["b", "d", "e", "f"]


async def test_transcripts_that_begin_within_one_millisecond_are_told_apart(sessions: RedisSession) -> None:
    store, born = await sessions._store(), list[str]()
    for _ in range(50):
        await sessions.append_message("s", {"role": "user", "content": "hello"})
        born.append((await store.transcript_from(SessionKey("default/s"), 0))[0])
        await sessions.delete_session("s")
    assert len(set(born)) == len(born)


async def test_a_process_keeps_as_many_messages_as_it_may(sessions: RedisSession) -> None:
    warm = WarmTranscripts(bound=3)
    store = await sessions._store()
    for name in ("s", "t"):
        for number in range(2):
            await sessions.append_message(name, {"role": "user", "content": number})
    for name in ("s", "t", "s"):
        assert len(await warm.read(store, SessionKey(f"default/{name}"))) == 2
    assert list(warm._kept) == ["default/s"]
