"""Every session plugin of the registry, driven through the same conversation; and what those on disk add."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtime_core.config.loader import load_config_dict
from runtime_core.config.schema import PluginRef
from runtime_core.contracts.context import RunScope, current_scope
from runtime_core.contracts.run import StopReason
from runtime_core.contracts.session import SessionArtifact
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import ConfigError, SessionError
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.kernel_setup import config, recorded, request

NAMES = sorted(BUILTINS[Seam.SESSION])
ON_DISK = ("jsonl_file", "sqlite")


@pytest.fixture(scope="module")
def redis_url() -> Any:
    with EmbeddedRedis() as server:
        yield server.url


def section(name: str, tmp_path: Path, redis_url: str) -> dict[str, Any]:
    settings = {
        "redis": {"redis_url": redis_url},
        "sqlite": {"db_path": str(tmp_path / "deep" / "sessions.db")},
        "jsonl_file": {"root_dir": str(tmp_path / "sessions")},
    }
    return {"type": name, "config": settings.get(name, {})}


def opened(name: str, tmp_path: Path, redis_url: str = "") -> Any:
    return load_plugin(Seam.SESSION, PluginRef(**section(name, tmp_path, redis_url)))


@pytest.fixture(params=NAMES)
async def sessions(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[Any]:
    current_scope.set(RunScope())
    plugin = opened(request.param, tmp_path, redis_url)
    await plugin.delete_session("s")
    await plugin.delete_session("t")
    yield plugin
    await plugin.close()


async def fill(sessions: Any, session: str = "s") -> None:
    async with sessions.session(session) as state:
        await sessions.set_state(session, {**state, "turns": 1, "gone": True})
        await sessions.append_message(session, {"role": "user", "content": "hällo"})
        await sessions.save_artifact(session, SessionArtifact(name="report", payload={"pages": 2}))
        await sessions.append_message(session, {"role": "assistant", "content": None})
        await sessions.set_state(session, {"turns": 2})


async def seen(sessions: Any, session: str = "s") -> list[Any]:
    return [
        await sessions.get_state(session),
        [message["content"] for message in await sessions.load_messages(session)],
        [(artifact.name, artifact.payload) for artifact in await sessions.list_artifacts(session)],
    ]


FILLED = [{"turns": 2}, ["hällo", None], [("report", {"pages": 2})]]


async def test_what_is_written_is_read(sessions: Any) -> None:
    assert await seen(sessions) == [{}, [], []]
    await fill(sessions)
    assert await seen(sessions) == FILLED
    assert "s" in await sessions.list_sessions()
    await sessions.delete_session("s")
    assert await seen(sessions) == [{}, [], []]
    assert "s" not in await sessions.list_sessions()


async def test_one_run_of_a_session_is_inside_at_a_time(sessions: Any) -> None:
    order: list[str] = []

    async def turn(name: str, session: str) -> None:
        async with sessions.session(session):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    await asyncio.gather(turn("first", "s"), turn("second", "s"))
    assert order == ["first in", "first out", "second in", "second out"]


async def test_a_fork_is_a_copy_of_its_own(sessions: Any) -> None:
    await fill(sessions)
    await sessions.create_checkpoint("s", "before")
    await sessions.fork_session("s", "t")
    assert await seen(sessions, "t") == FILLED
    assert "before" in await sessions.list_checkpoints("t")
    await sessions.append_message("t", {"content": "of the fork"})
    await sessions.append_message("s", {"content": "of the source"})
    assert (await seen(sessions, "t"))[1] == ["hällo", None, "of the fork"]
    assert (await seen(sessions))[1] == ["hällo", None, "of the source"]
    with pytest.raises(SessionError, match="exists"):
        await sessions.fork_session("s", "t")


async def test_a_checkpoint_says_how_the_session_stood(sessions: Any) -> None:
    await fill(sessions)
    made = await sessions.create_checkpoint("s", "before")
    await sessions.set_state("s", {"turns": 3})
    found = await sessions.load_checkpoint("s", "before")
    assert found == made
    assert (found.state, found.transcript_length, found.artifact_count) == ({"turns": 2}, 2, 1)
    await sessions.create_checkpoint("s", "another")
    assert await sessions.list_checkpoints("s") == ["before", "another"]
    assert await sessions.load_checkpoint("s", "never") is None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redis"])  # there its worker writes them
async def test_a_step_is_kept_once(name: str, tmp_path: Path) -> None:
    sessions = opened(name, tmp_path)
    await sessions.save_step("s", "r", 1, "first")
    await sessions.save_step("s", "r", 1, "again")
    await sessions.save_step("s", "r", 2, "second")
    assert await sessions.load_steps("s", "r") == {1: "first", 2: "second"}
    assert await sessions.list_checkpoints("s") == ["r:step:1", "r:step:2"]
    await sessions.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_runtime_remembers_a_conversation(name: str, tmp_path: Path, redis_url: str) -> None:
    runtime = Runtime.from_dict(config() | {"session": section(name, tmp_path, redis_url)})
    for turn in range(2):
        result, _ = await recorded(runtime, request(f"turn {turn}", session=f"talk {name}"))
        assert result.stop_reason is StopReason.COMPLETED, result.error_details
        assert result.final_output == f"Echo: turn {turn} (history={turn})"
    await runtime.close()


@pytest.mark.parametrize("name", ON_DISK)
async def test_what_is_on_disk_is_there_after_a_restart(name: str, tmp_path: Path) -> None:
    sessions = opened(name, tmp_path)
    names = ["s", "a/b", "../up", ".hidden", "ö" * 100, "x" * 512, "with space"]
    for session in names:
        await fill(sessions, session)
    await sessions.save_step("s", "r", 1, "kept")
    await sessions.create_checkpoint("s", "before")
    await sessions.close()

    again = opened(name, tmp_path)
    assert sorted(await again.list_sessions()) == sorted(names)
    for session in names:
        assert await seen(again, session) == FILLED
    assert await again.load_steps("s", "r") == {1: "kept"}
    assert await again.list_checkpoints("s") == ["before", "r:step:1"]
    await again.close()
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} <= {"deep", "sessions"}


@pytest.mark.parametrize("name", ON_DISK)
async def test_what_json_cannot_hold_is_refused_by_name(name: str, tmp_path: Path) -> None:
    sessions = opened(name, tmp_path)
    with pytest.raises(SessionError, match="cannot be kept"):
        await sessions.set_state("s", {"lock": asyncio.Lock()})
    assert await sessions.get_state("s") == {}
    await sessions.close()


@pytest.mark.parametrize("name", ON_DISK)
async def test_a_worker_refuses_sessions_that_other_workers_cannot_see(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not shared between processes"):
        Runtime(load_config_dict(config() | {"session": section(name, tmp_path, "")}), shared_sessions_only=True)


async def test_a_line_that_was_cut_is_left_out_and_the_next_stands_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = opened("jsonl_file", tmp_path)
    await fill(sessions)
    path = tmp_path / "sessions" / "s.jsonl"
    path.write_bytes(path.read_bytes() + b'{"type": "transcript", "data": {"role"')

    with caplog.at_level(logging.WARNING):
        again = opened("jsonl_file", tmp_path)
        assert await seen(again) == FILLED
    assert "it was cut" in caplog.text
    await again.append_message("s", {"content": "after"})
    assert (await seen(opened("jsonl_file", tmp_path)))[1] == ["hällo", None, "after"]


async def test_files_of_the_openagents_sdk_are_read(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "s.jsonl").write_text(
        '{"type": "transcript", "data": {"role": "user", "content": "old"}, "ts": "2026-01-01T00:00:00+00:00"}\n'
        '{"type": "state", "data": {"turns": 7, "_session_transcript": []}, "ts": "2026-01-01T00:00:00+00:00"}\n'
    )
    assert await seen(opened("jsonl_file", tmp_path)) == [{"turns": 7}, ["old"], []]


async def test_a_fork_on_disk_has_what_looks_like_a_line_of_ours(tmp_path: Path) -> None:
    sessions = opened("jsonl_file", tmp_path)
    await sessions.append_message("s", {"role": "assistant", "content": {"type": "session"}})
    await sessions.fork_session("s", "x" * 512)
    (message,) = await opened("jsonl_file", tmp_path).load_messages("x" * 512)
    assert message["content"] == {"type": "session"}


@pytest.mark.parametrize("name", ON_DISK)
async def test_a_place_that_cannot_be_used_is_named(name: str, tmp_path: Path) -> None:
    for place in ("deep", "sessions"):
        (tmp_path / place).write_text("no directory")
    sessions = opened(name, tmp_path)
    with pytest.raises(SessionError, match=str(tmp_path)):
        await sessions.append_message("s", {"role": "user", "content": "hello"})
    await sessions.close()


async def test_a_session_file_is_only_added_to(tmp_path: Path) -> None:
    sessions = opened("jsonl_file", tmp_path)
    await fill(sessions)
    path = tmp_path / "sessions" / "s.jsonl"
    before = path.read_bytes()
    await sessions.set_state("s", {"turns": 2})
    assert path.read_bytes() == before, "what did not change is not written"
    await sessions.set_state("s", {"turns": 3})
    assert path.read_bytes().startswith(before)


async def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "sessions.db").write_text("this is no database, whatever its name may say of it" * 20)
    sessions = opened("sqlite", tmp_path)
    with pytest.raises(SessionError, match=r"sessions\.db refused"):
        await sessions.get_state("s")
    await sessions.close()


async def test_a_database_is_read_by_others_while_it_is_used(tmp_path: Path) -> None:
    sessions = opened("sqlite", tmp_path)
    await fill(sessions)
    with sqlite3.connect(tmp_path / "deep" / "sessions.db") as database:
        assert database.execute("SELECT count(*) FROM messages").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await sessions.close()


async def test_the_end_of_a_transcript_is_what_its_whole_ends_with(sessions: Any) -> None:
    read = getattr(sessions, "load_newest_messages", None)
    if read is None:
        return
    for number in range(5):
        await sessions.append_message("s", {"role": "user", "content": str(number)})
    await sessions.append_message("t", {"role": "user", "content": "of another"})
    whole = await sessions.load_messages("s")
    assert await read("s", 2) == (whole[-2:], 5)
    assert await read("s", 9) == (whole, 5)
    assert await read("nobody", 2) == ([], 0)
