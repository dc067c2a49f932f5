"""Sessions in files, a line of JSON for each thing that is kept. For one process."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint
from runtime_core.errors import SessionError
from runtime_core.ids import digest
from runtime_core.plugins.builtin.session.in_memory import InMemorySession

logger = logging.getLogger(__name__)

_SUFFIX = ".jsonl"
#: How the line begins that says whose file it is.
_SESSION_LINE = b'{"type":"session"'
#: Bytes of a file's name, without the suffix: file systems allow 255.
_LONGEST_NAME = 200


class JsonlFileSession(InMemorySession):
    """A file per session below ``root_dir``, read when the session is first used and only added to from then on.

    Lines are ``{"type", "data", "ts"}``, with the types of the openagents SDK, whose files it reads: ``transcript``,
    ``artifact``, ``checkpoint`` and ``state`` (the whole of it); and ``state_change`` {"set", "unset"}, ``step``, and
    ``session``, the id, where it does not follow from the file's name. A line that was cut when the process died, or
    that cannot be read, is left out with a warning.
    """

    class Config(InMemorySession.Config):
        root_dir: Path
        #: Whether a line is on the disk, and not only with the operating system, before the run goes on.
        fsync: bool = False

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._root: Path = self.cfg.root_dir
        self._writing = threading.Lock()
        self._reading: dict[str, asyncio.Lock] = {}
        #: Session → field of its state → the JSON that stands in its file.
        self._written: dict[str, dict[str, bytes]] = {}

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncGenerator[dict[str, Any]]:
        await self._open(session_id)
        async with super().session(session_id) as state:
            yield state

    async def get_state(self, session_id: str) -> dict[str, Any]:
        await self._open(session_id)
        return await super().get_state(session_id)

    async def set_state(self, session_id: str, state: dict[str, Any]) -> None:
        await self._open(session_id)
        before = self._written.setdefault(session_id, {})
        after = {name: _json(value) for name, value in state.items()}
        changed = [name for name, text in after.items() if before.get(name) != text]
        gone = [name for name in before if name not in after]
        if changed or gone:
            change = {"set": {name: state[name] for name in changed}, "unset": gone}
            await self._add(session_id, "state_change", change)
        self._written[session_id] = after
        await super().set_state(session_id, state)

    async def append_message(self, session_id: str, message: dict[str, Any]) -> None:
        await self._open(session_id)
        await self._add(session_id, "transcript", message)
        await super().append_message(session_id, message)

    async def load_messages(self, session_id: str) -> list[dict[str, Any]]:
        await self._open(session_id)
        return await super().load_messages(session_id)

    async def load_newest_messages(self, session_id: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        await self._open(session_id)
        return await super().load_newest_messages(session_id, limit)

    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None:
        await self._open(session_id)
        await self._add(session_id, "artifact", artifact)
        await super().save_artifact(session_id, artifact)

    async def list_artifacts(self, session_id: str) -> list[SessionArtifact]:
        await self._open(session_id)
        return await super().list_artifacts(session_id)

    async def delete_session(self, session_id: str) -> None:
        await super().delete_session(session_id)
        self._written.pop(session_id, None)
        await asyncio.to_thread(self._path(session_id).unlink, missing_ok=True)

    async def list_sessions(self) -> list[str]:
        kept = await asyncio.to_thread(lambda: sorted(self._names()))
        return list(dict.fromkeys([*kept, *await super().list_sessions()]))

    async def fork_session(self, source_session_id: str, target_session_id: str) -> None:
        await self._open(source_session_id)
        if await asyncio.to_thread(self._path(target_session_id).exists):
            raise SessionError(
                f"the session {target_session_id!r} exists",
                hint="choose an id that is not in use, or delete that session",
            )
        await super().fork_session(source_session_id, target_session_id)
        self._written[target_session_id] = dict(self._written.get(source_session_id, {}))
        await asyncio.to_thread(self._copy, source_session_id, target_session_id)

    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        await self._open(session_id)
        checkpoint = await super().create_checkpoint(session_id, checkpoint_id)
        await self._add(session_id, "checkpoint", checkpoint)
        return checkpoint

    async def load_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        await self._open(session_id)
        return await super().load_checkpoint(session_id, checkpoint_id)

    async def list_checkpoints(self, session_id: str) -> list[str]:
        await self._open(session_id)
        return await super().list_checkpoints(session_id)

    async def save_step(self, session_id: str, run_id: str, number: int, delta: str) -> None:
        await self._open(session_id)
        if number not in await super().load_steps(session_id, run_id):
            await self._add(session_id, "step", {"run_id": run_id, "number": number, "delta": delta})
        await super().save_step(session_id, run_id, number, delta)

    async def load_steps(self, session_id: str, run_id: str) -> dict[int, str]:
        await self._open(session_id)
        return await super().load_steps(session_id, run_id)

    async def close(self) -> None:
        await super().close()
        self._written.clear()

    def _path(self, session_id: str) -> Path:
        name = quote(session_id, safe=" ")
        if len(name) > _LONGEST_NAME or name.startswith((".", "-")):
            name = f"+{digest(session_id.encode())}"
        return self._root / f"{name}{_SUFFIX}"

    def _names(self) -> Iterator[str]:
        for path in self._root.glob(f"*{_SUFFIX}"):
            if not path.name.startswith("+"):
                yield unquote(path.name.removesuffix(_SUFFIX))
                continue
            for line in _lines(path):
                if line.get("type") == "session":
                    yield str(line["data"])
                    break

    async def _open(self, session_id: str) -> None:
        """Read the session's file, once."""
        if session_id in self._sessions:
            return
        async with self._reading.setdefault(session_id, asyncio.Lock()):
            if session_id not in self._sessions:
                with _naming(self._path(session_id)) as path:
                    lines = await asyncio.to_thread(lambda: list(_lines(path)))
                if lines:
                    await self._replay(session_id, lines)
        self._reading.pop(session_id, None)

    async def _replay(self, session_id: str, lines: list[dict[str, Any]]) -> None:
        session = self._session(session_id)
        for line in lines:
            try:
                data: Any = line["data"]
                match line["type"]:
                    case "transcript":
                        session.messages.append(dict(data))
                    case "artifact":
                        session.artifacts.append(SessionArtifact.model_validate(data))
                    case "checkpoint":
                        checkpoint = SessionCheckpoint.model_validate(data)
                        session.checkpoints[checkpoint.checkpoint_id] = checkpoint
                    case "state":
                        own = [name for name in data if not name.startswith("_session_")]  # what the SDK keeps in there
                        session.state = {name: data[name] for name in own}
                    case "state_change":
                        session.state |= data["set"]
                        for name in data["unset"]:
                            session.state.pop(name, None)
                    case "step":
                        await super().save_step(session_id, data["run_id"], data["number"], data["delta"])
                    case _:
                        pass
            except (KeyError, TypeError, ValueError, ValidationError) as error:
                logger.warning("a line of session %r is left out: %s", session_id, error)
        self._written[session_id] = {name: _json(value) for name, value in session.state.items()}

    async def _add(self, session_id: str, kind: str, data: Any) -> None:
        line = _json({"type": kind, "data": data, "ts": datetime.now(UTC).isoformat()})
        with _naming(self._path(session_id)):
            await asyncio.to_thread(self._append, session_id, line)

    def _append(self, session_id: str, line: bytes) -> None:
        path = self._path(session_id)
        with self._writing:
            self._root.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                end = file.seek(0, os.SEEK_END)
                if end == 0 and path.name.startswith("+"):
                    file.write(_json({"type": "session", "data": session_id}) + b"\n")
                elif end:
                    file.seek(end - 1)
                    if file.read(1) != b"\n":  # the line that was cut stays alone
                        file.write(b"\n")
                file.write(line + b"\n")
                file.flush()
                if self.cfg.fsync:
                    os.fsync(file.fileno())

    def _copy(self, source: str, target: str) -> None:
        path, copy = self._path(source), self._path(target)
        if not path.exists():
            return
        lines = [line for line in path.read_bytes().splitlines() if line and not line.startswith(_SESSION_LINE)]
        if copy.name.startswith("+"):
            lines.insert(0, _json({"type": "session", "data": target}))
        begun = copy.with_suffix(".begun")
        begun.write_bytes(b"".join(line + b"\n" for line in lines))
        begun.replace(copy)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            try:
                line: Any = from_json(text)
            except ValueError:
                logger.warning("line %d of %s is left out: it is not JSON, or it was cut", number, path.name)
                continue
            if isinstance(line, dict):
                yield line


@contextmanager
def _naming(path: Path) -> Generator[Path]:
    """What the system refuses of ``path`` becomes a SessionError."""
    try:
        yield path
    except OSError as error:
        raise SessionError(
            f"the session file {path} cannot be used: {error.strerror}",
            hint="may this process read and write there, and is there room?",
        ) from error


def _json(value: Any) -> bytes:
    try:
        return to_json(value)
    except PydanticSerializationError as error:
        raise SessionError(
            f"{type(value).__name__} cannot be kept: {error}", hint="a session keeps what JSON can hold"
        ) from error
