"""Sessions in an SQLite database. For one process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, NonNegativeInt
from pydantic_core import PydanticSerializationError, to_json

from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint, step_checkpoint_id
from runtime_core.errors import SessionError
from runtime_core.plugins.builtin.session.exclusion import SessionExclusion
from runtime_core.plugins.typed_config import TypedConfig

T = TypeVar("T")

#: A table each for what is added and for what has a name; ``body`` is JSON, but for steps, which are texts.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, session TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS messages_of ON messages (session, id);
CREATE TABLE IF NOT EXISTS artifacts (id INTEGER PRIMARY KEY, session TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS artifacts_of ON artifacts (session, id);
CREATE TABLE IF NOT EXISTS state (session TEXT, name TEXT, body TEXT NOT NULL, PRIMARY KEY (session, name));
CREATE TABLE IF NOT EXISTS checkpoints (session TEXT, name TEXT, body TEXT NOT NULL, PRIMARY KEY (session, name));
CREATE TABLE IF NOT EXISTS steps
  (session TEXT, run TEXT, number INTEGER, body TEXT NOT NULL, PRIMARY KEY (session, run, number));
"""
#: Table → its columns besides ``session``, without an id that is given out.
_COLUMNS = {
    "messages": "body",
    "artifacts": "body",
    "state": "name, body",
    "checkpoints": "name, body",
    "steps": "run, number, body",
}


class SqliteSession(TypedConfig):
    """A SessionManager (see plugins/protocols.py). One thread talks to the database; what is added is a row each."""

    shared_between_processes = False

    class Config(BaseModel):
        db_path: Path
        #: Write-ahead log: readers of other processes do not wait for the writer.
        wal: bool = True
        #: What survives a crash of the machine: NORMAL keeps the database whole, FULL each change as well.
        synchronous: Literal["OFF", "NORMAL", "FULL"] = "NORMAL"
        #: Milliseconds to wait for another process that writes.
        busy_timeout_ms: NonNegativeInt = 5_000

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._exclusion = SessionExclusion()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sessions")
        self._database: sqlite3.Connection | None = None

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncGenerator[dict[str, Any]]:
        async with self._exclusion.hold(session_id):
            yield await self.get_state(session_id)

    async def get_state(self, session_id: str) -> dict[str, Any]:
        rows = await self._select("SELECT name, body FROM state WHERE session = ?", session_id)
        return {name: json.loads(body) for name, body in rows}

    async def set_state(self, session_id: str, state: dict[str, Any]) -> None:
        after = {name: _json(value) for name, value in state.items()}

        def change(database: sqlite3.Connection) -> None:
            before = dict(database.execute("SELECT name, body FROM state WHERE session = ?", (session_id,)))
            gone = [(session_id, name) for name in before if name not in after]
            database.executemany("DELETE FROM state WHERE session = ? AND name = ?", gone)
            changed = [(session_id, name, body) for name, body in after.items() if before.get(name) != body]
            database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", changed)

        await self._call(change)

    async def append_message(self, session_id: str, message: dict[str, Any]) -> None:
        await self._write("INSERT INTO messages (session, body) VALUES (?, ?)", session_id, _json(message))

    async def load_messages(self, session_id: str) -> list[dict[str, Any]]:
        rows = await self._select("SELECT body FROM messages WHERE session = ? ORDER BY id", session_id)
        return [json.loads(body) for (body,) in rows]

    async def load_newest_messages(self, session_id: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        query = f"SELECT body FROM messages WHERE session = ? ORDER BY id DESC LIMIT {int(limit)}"
        rows = await self._select(query, session_id)
        return [json.loads(body) for (body,) in reversed(rows)], await self._count("messages", session_id)

    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None:
        await self._write("INSERT INTO artifacts (session, body) VALUES (?, ?)", session_id, _json(artifact))

    async def list_artifacts(self, session_id: str) -> list[SessionArtifact]:
        rows = await self._select("SELECT body FROM artifacts WHERE session = ? ORDER BY id", session_id)
        return [SessionArtifact.model_validate_json(body) for (body,) in rows]

    async def delete_session(self, session_id: str) -> None:
        def delete(database: sqlite3.Connection) -> None:
            for table in _COLUMNS:
                database.execute(f"DELETE FROM {table} WHERE session = ?", (session_id,))

        await self._call(delete)

    async def list_sessions(self) -> list[str]:
        every = " UNION ".join(f"SELECT session FROM {table}" for table in _COLUMNS)
        return [session for (session,) in await self._select(f"SELECT session FROM ({every}) ORDER BY session")]

    async def fork_session(self, source_session_id: str, target_session_id: str) -> None:
        def fork(database: sqlite3.Connection) -> None:
            for table in _COLUMNS:
                if database.execute(f"SELECT 1 FROM {table} WHERE session = ?", (target_session_id,)).fetchone():
                    raise SessionError(
                        f"the session {target_session_id!r} exists",
                        hint="choose an id that is not in use, or delete that session",
                    )
            for table, columns in _COLUMNS.items():
                database.execute(
                    f"INSERT INTO {table} (session, {columns}) SELECT ?, {columns} FROM {table} "
                    f"WHERE session = ? ORDER BY rowid",
                    (target_session_id, source_session_id),
                )

        await self._call(fork)

    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        checkpoint = SessionCheckpoint(
            checkpoint_id=checkpoint_id,
            state=await self.get_state(session_id),
            transcript_length=await self._count("messages", session_id),
            artifact_count=await self._count("artifacts", session_id),
        )
        await self._write(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", session_id, checkpoint_id, _json(checkpoint)
        )
        return checkpoint

    async def load_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        rows = await self._select(
            "SELECT body FROM checkpoints WHERE session = ? AND name = ?", session_id, checkpoint_id
        )
        return next((SessionCheckpoint.model_validate_json(body) for (body,) in rows), None)

    async def list_checkpoints(self, session_id: str) -> list[str]:
        named = await self._select("SELECT name FROM checkpoints WHERE session = ? ORDER BY rowid", session_id)
        steps = await self._select("SELECT run, number FROM steps WHERE session = ? ORDER BY rowid", session_id)
        return [name for (name,) in named] + [step_checkpoint_id(run, number) for run, number in steps]

    async def save_step(self, session_id: str, run_id: str, number: int, delta: str) -> None:
        await self._write("INSERT OR IGNORE INTO steps VALUES (?, ?, ?, ?)", session_id, run_id, number, delta)

    async def load_steps(self, session_id: str, run_id: str) -> dict[int, str]:
        rows = await self._select("SELECT number, body FROM steps WHERE session = ? AND run = ?", session_id, run_id)
        return dict(rows)

    async def close(self) -> None:
        def close() -> None:
            database, self._database = self._database, None
            if database is not None:
                database.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)

    async def _count(self, table: str, session_id: str) -> int:
        ((count,),) = await self._select(f"SELECT count(*) FROM {table} WHERE session = ?", session_id)
        return count

    async def _select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._call(lambda database: database.execute(query, values).fetchall())

    async def _write(self, statement: str, *values: Any) -> None:
        await self._call(lambda database: database.execute(statement, values))

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """``work`` as one transaction, in the thread. Raises SessionError for what SQLite refuses."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._open() as database:
                return work(database)
        except (sqlite3.Error, OSError) as error:
            raise SessionError(
                f"the session database {self.cfg.db_path} refused: {error}",
                hint="is it writable, whole, and not locked by another process?",
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            path: Path = self.cfg.db_path
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, timeout=self.cfg.busy_timeout_ms / 1000, check_same_thread=False)
            _execute_all(database, self._pragmas())
            database.executescript(_SCHEMA)
            self._database = database
        return self._database

    def _pragmas(self) -> Iterable[str]:
        yield f"PRAGMA synchronous = {self.cfg.synchronous}"
        if self.cfg.wal:
            yield "PRAGMA journal_mode = WAL"


def _execute_all(database: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        database.execute(statement)


def _json(value: Any) -> str:
    try:
        return to_json(value).decode()
    except PydanticSerializationError as error:
        raise SessionError(
            f"{type(value).__name__} cannot be kept: {error}", hint="a session keeps what JSON can hold"
        ) from error
