"""Sessions in the store: every worker sees them, and a run changes them once, when it finishes.

An attempt on a worker does not write here: what it writes is kept until it leaves the session, is staged with its run
then, in one go and under its fence, and is applied when the run finishes. It sees its own writes merged with what is
stored; one that is cancelled leaves none. Anything else writes at once, and is refused while the session has an
unfinished run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis

from runtime_core.config.settings import Settings
from runtime_core.contracts.context import RunScope, current_scope
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint, SessionWriter
from runtime_core.errors import SessionError
from runtime_core.ids import SessionKey, scoped_run_id, split_session_key
from runtime_core.plugins.builtin.session.exclusion import SessionExclusion
from runtime_core.plugins.builtin.session.warm_transcripts import WarmTranscripts
from runtime_core.plugins.typed_config import TypedConfig
from runtime_core.store.connection import connect
from runtime_core.store.meta import open_store
from runtime_core.store.sessions import (
    SessionStore,
    artifact_entry,
    checkpoint_entry,
    merge_artifacts,
    merge_checkpoints,
    merge_messages,
    merge_state,
    message_entry,
    read_patiently,
    state_entries,
)


@dataclass(kw_only=True)
class _Turn:
    """The time between entering a session and leaving it: what is written meanwhile, and by whom it will be staged."""

    session: SessionKey
    writer: SessionWriter
    #: The first ``staged`` of them are with the run already.
    entries: list[list[str]]
    staged: int
    over: bool = False

    async def stage(self) -> None:
        """Stage what is not staged yet."""
        entries = self.entries[self.staged :]
        if entries:
            await self.writer.stage(entries)
            self.staged += len(entries)


#: The turn that this task has: what a run stages belongs to its own session and to no other.
_turn: ContextVar[_Turn | None] = ContextVar("runlane_session_turn", default=None)


class RedisSession(TypedConfig):
    """A SessionManager (see plugins/protocols.py) over SessionStore. Connects when it is first used.

    On the fleet the mailbox keeps a session's runs apart; ``session`` excludes only other tasks of this process.
    Sessions belong to the tenant of the run's scope, outside a run to the tenant ``default``.
    """

    shared_between_processes = True

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")

        #: None for the store of this process, ``RUNLANE_REDIS_URL``.
        redis_url: str | None = None

    cfg: Config

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._exclusion = SessionExclusion()
        self._transcripts = WarmTranscripts()
        self._opening = asyncio.Lock()
        self._redis: Redis | None = None
        self._opened: SessionStore | None = None

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncGenerator[dict[str, Any]]:
        scope = _scope()
        key = scope.session_key(session_id)
        async with self._exclusion.hold(key):
            turn = None
            if scope.writer is not None:
                kept = await scope.writer.staged()
                turn = _Turn(session=key, writer=scope.writer, entries=kept, staged=len(kept))
            token = _turn.set(turn)
            try:
                yield await self.get_state(session_id)
            finally:
                _turn.reset(token)
                if turn is not None:
                    turn.over = True
            if turn is not None:
                await turn.stage()

    async def get_state(self, session_id: str) -> dict[str, Any]:
        key = _scope().session_key(session_id)
        return merge_state(await (await self._store()).state(key), _written(key))

    async def set_state(self, session_id: str, state: dict[str, Any]) -> None:
        await self._write(session_id, state_entries(await self.get_state(session_id), state))

    async def append_message(self, session_id: str, message: dict[str, Any]) -> None:
        await self._write(session_id, [message_entry(message)])

    async def load_messages(self, session_id: str) -> list[dict[str, Any]]:
        key = _scope().session_key(session_id)
        return merge_messages(await self._transcripts.read(await self._store(), key), _written(key))

    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None:
        await self._write(session_id, [artifact_entry(artifact)])

    async def list_artifacts(self, session_id: str) -> list[SessionArtifact]:
        key = _scope().session_key(session_id)
        return merge_artifacts(await (await self._store()).artifacts(key), _written(key))

    async def delete_session(self, session_id: str) -> None:
        await (await self._store()).delete(_scope().session_key(session_id))

    async def list_sessions(self) -> list[str]:
        return [split_session_key(key)[1] for key in await (await self._store()).known(_scope().tenant)]

    async def fork_session(self, source_session_id: str, target_session_id: str) -> None:
        scope, store = _scope(), await self._store()
        source = scope.session_key(source_session_id)
        entries = [*await store.contents(source), *_written(source)]
        await store.edit(scope.session_key(target_session_id), entries, new=True)

    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        checkpoint = SessionCheckpoint(
            checkpoint_id=checkpoint_id,
            state=await self.get_state(session_id),
            transcript_length=len(await self.load_messages(session_id)),
            artifact_count=len(await self.list_artifacts(session_id)),
        )
        await self._write(session_id, [checkpoint_entry(checkpoint)])
        return checkpoint

    async def load_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        return (await self._checkpoints(session_id)).get(checkpoint_id)

    async def list_checkpoints(self, session_id: str) -> list[str]:
        key = _scope().session_key(session_id)
        return await (await self._store()).checkpoint_ids(key, _written(key))

    async def load_steps(self, session_id: str, run_id: str) -> dict[int, str]:
        scope = _scope()
        return await (await self._store()).steps(scope.session_key(session_id), scoped_run_id(scope.tenant, run_id))

    async def stage_now(self, session_id: str) -> None:
        """Stage what the run has written so far, before a durable step that counts it is kept."""
        turn = _turn.get()
        if turn is not None and turn.session == _scope().session_key(session_id):
            await turn.stage()

    async def close(self) -> None:
        redis, self._redis, self._opened = self._redis, None, None
        if redis is not None:
            await redis.aclose()

    async def _checkpoints(self, session_id: str) -> dict[str, SessionCheckpoint]:
        key = _scope().session_key(session_id)
        return merge_checkpoints(await (await self._store()).checkpoints(key), _written(key))

    async def _write(self, session_id: str, entries: list[list[str]]) -> None:
        if not entries:
            return
        key = _scope().session_key(session_id)
        turn = _turn.get()
        if turn is not None and turn.session == key:
            if turn.over:
                raise SessionError("the run has left its session", hint="await what the run starts before it ends")
            turn.entries += entries
        else:
            await (await self._store()).edit(key, entries)

    async def _store(self) -> SessionStore:
        async with self._opening:
            if self._opened is None:
                settings = Settings()
                url = self.cfg.redis_url or settings.redis_url
                self._redis = redis = self._redis or connect(url, batching=True)
                partitions = await read_patiently(lambda: open_store(redis, settings.partitions))
                self._opened = SessionStore(redis, partitions)
            return self._opened


def _scope() -> RunScope:
    return current_scope.get(RunScope())


def _written(key: SessionKey) -> list[list[str]]:
    """What this task has written in its turn and the store does not show yet."""
    turn = _turn.get()
    return turn.entries if turn is not None and turn.session == key else []
