"""Sessions in memory."""

from __future__ import annotations

import asyncio

from runtime_core.contracts.session import SessionArtifact
from runtime_core.plugins.builtin.session.exclusion import SessionExclusion
from runtime_core.plugins.builtin.session.in_memory import InMemorySession


async def test_what_is_written_is_read_in_order() -> None:
    sessions = InMemorySession()

    for number in range(3):
        await sessions.append_message("s", {"role": "user", "content": number})
        await sessions.save_artifact("s", SessionArtifact(name=str(number)))
    await sessions.set_state("s", {"a": 1})

    assert [message["content"] for message in await sessions.load_messages("s")] == [0, 1, 2]
    assert [artifact.name for artifact in await sessions.list_artifacts("s")] == ["0", "1", "2"]
    assert await sessions.get_state("s") == {"a": 1}
    assert await sessions.load_messages("other") == []


async def test_the_yielded_state_is_kept() -> None:
    sessions = InMemorySession()

    async with sessions.session("s") as state:
        state["turns"] = 1

    assert await sessions.get_state("s") == {"turns": 1}


async def test_a_reader_cannot_change_what_is_stored() -> None:
    sessions = InMemorySession()
    await sessions.append_message("s", {"content": "kept"})

    (await sessions.load_messages("s"))[0]["content"] = "changed"

    assert await sessions.load_messages("s") == [{"content": "kept"}]


async def test_a_deleted_session_is_an_empty_one() -> None:
    sessions = InMemorySession()
    await sessions.set_state("s", {"a": 1})
    assert await sessions.list_sessions() == ["s"]

    await sessions.delete_session("s")
    await sessions.delete_session("never seen")

    assert await sessions.list_sessions() == []
    assert await sessions.get_state("s") == {}


async def test_one_at_a_time_per_session_in_order_of_arrival() -> None:
    sessions = InMemorySession()
    order: list[str] = []
    release = asyncio.Event()

    async def run(name: str, session_id: str) -> None:
        async with sessions.session(session_id):
            order.append(f"{name} begins")
            if name == "first":
                await release.wait()
            order.append(f"{name} ends")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run("first", "s"))
        tasks.create_task(run("second", "s"))
        await tasks.create_task(run("elsewhere", "t"))
        release.set()

    assert order == ["first begins", "elsewhere begins", "elsewhere ends", "first ends", "second begins", "second ends"]


async def test_a_session_that_nobody_uses_holds_no_lock() -> None:
    exclusion = SessionExclusion()
    entered = False

    async def enter() -> None:
        nonlocal entered
        async with exclusion.hold("s"):
            entered = True

    async with exclusion.hold("s"):
        waiting = asyncio.create_task(enter())
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert len(exclusion) == 1

    assert not entered
    assert len(exclusion) == 0
