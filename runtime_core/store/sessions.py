"""What sessions keep in Redis: state, transcript and artifacts, appended to and never rewritten whole.

A write is an entry, the JSON text of [kind, key, value]: ``message`` and ``artifact`` append (key is empty), ``set``
and ``unset`` change one top-level field of the state, ``checkpoint`` keeps one by its name.
``value`` is JSON text itself, so that scripts pass it through.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic_core import PydanticSerializationError, from_json, to_json
from redis.asyncio import Redis

from runtime_core.contracts.context import current_scope
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint, step_checkpoint_id
from runtime_core.errors import SessionError
from runtime_core.ids import ScopedRunId, SessionKey, split_run_id
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE
from runtime_core.store.scripts import run_script

logger = logging.getLogger(__name__)

#: Seconds before a read is tried again; Redis is away or starting then.
_RETRY_DELAY = 0.2


def _entry(kind: str, key: str, value: Any) -> list[str]:
    try:
        return [kind, key, to_json(value, inf_nan_mode="null").decode()]
    except (PydanticSerializationError, ValueError) as error:
        raise SessionError(
            f"a session {kind} cannot be written as JSON: {error}", hint="keep plain JSON values in sessions"
        ) from error


def message_entry(message: Mapping[str, Any]) -> list[str]:
    return _entry("message", "", dict(message))


def checkpoint_entry(checkpoint: SessionCheckpoint) -> list[str]:
    return _entry("checkpoint", checkpoint.checkpoint_id, checkpoint)


def artifact_entry(artifact: SessionArtifact) -> list[str]:
    return _entry("artifact", "", artifact)


def parse_messages(texts: Sequence[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = from_json(f"[{','.join(texts)}]")  # at once: a quarter of the time of one by one
    return messages


def state_entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[list[str]]:
    """The entries that turn ``old`` into ``new``, field by field; an unchanged field costs nothing."""
    changed = [_entry("set", name, value) for name, value in new.items() if name not in old or old[name] != value]
    return changed + [["unset", name, "null"] for name in old if name not in new]


def merge_messages(stored: list[dict[str, Any]], staged: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return stored + [json.loads(value) for kind, _, value in staged if kind == "message"]


def merge_artifacts(stored: list[SessionArtifact], staged: Sequence[Sequence[str]]) -> list[SessionArtifact]:
    return stored + [SessionArtifact.model_validate_json(value) for kind, _, value in staged if kind == "artifact"]


def merge_checkpoints(
    stored: Mapping[str, SessionCheckpoint], staged: Sequence[Sequence[str]]
) -> dict[str, SessionCheckpoint]:
    written = [SessionCheckpoint.model_validate_json(value) for kind, _, value in staged if kind == "checkpoint"]
    return {**stored, **{checkpoint.checkpoint_id: checkpoint for checkpoint in written}}


def merge_state(stored: Mapping[str, Any], staged: Sequence[Sequence[str]]) -> dict[str, Any]:
    state = dict(stored)
    for kind, name, value in staged:
        if kind == "set":
            state[name] = json.loads(value)
        elif kind == "unset":
            state.pop(name, None)
    return state


async def read_patiently(call: Callable[[], Any]) -> Any:
    """An attempt on a worker waits for a Redis that is away, as long as its lease may still be its own."""
    while True:
        try:
            return await call()
        except RETRYABLE as error:
            scope = current_scope.get(None)
            if scope is None or scope.writer is None:
                raise
            logger.warning("a session cannot be read, trying again: %s", error)
            await asyncio.sleep(_RETRY_DELAY)
            await scope.guard()


class SessionStore:
    """Reads see finished runs only; what a running attempt has staged is merged by its caller (``merge_*``)."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions

    async def messages(self, session: SessionKey, *, after: int = 0, limit: int = 0) -> list[dict[str, Any]]:
        """Its transcript, oldest message first, behind the first ``after`` messages; ``limit`` 0 for all."""
        last = after + limit - 1 if limit else -1
        texts: list[str] = await read_patiently(
            lambda: self._redis.lrange(self._key(session, "transcript"), after, last)
        )
        return parse_messages(texts)

    async def transcript_from(self, session: SessionKey, index: int) -> tuple[str, list[str]]:
        """(when the transcript began, ms as text; its messages from ``index`` on, JSON each), read at one moment."""
        born, texts = await read_patiently(lambda: self._read_from(session, index))
        return born or "", texts

    async def _read_from(self, session: SessionKey, index: int) -> list[Any]:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(self._key(session, "meta"), "born")
            pipeline.lrange(self._key(session, "transcript"), index, -1)
            return await pipeline.execute()

    async def artifacts(self, session: SessionKey) -> list[SessionArtifact]:
        texts: list[str] = await read_patiently(lambda: self._redis.lrange(self._key(session, "artifacts"), 0, -1))
        return [SessionArtifact.model_validate_json(text) for text in texts]

    async def state(self, session: SessionKey) -> dict[str, Any]:
        fields: dict[str, str] = await read_patiently(lambda: self._redis.hgetall(self._key(session, "state")))
        return {name: json.loads(text) for name, text in fields.items()}

    async def contents(self, session: SessionKey) -> list[list[str]]:
        """All that it keeps, read at one moment, as the entries that write it again. Durable steps belong to runs."""
        parts = await read_patiently(lambda: self._read_parts(session))
        transcript, artifacts, state, checkpoints = parts
        return [
            *(["message", "", text] for text in transcript),
            *(["artifact", "", text] for text in artifacts),
            *(["set", name, text] for name, text in state.items()),
            *(["checkpoint", name, text] for name, text in checkpoints.items()),
        ]

    async def _read_parts(self, session: SessionKey) -> list[Any]:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.lrange(self._key(session, "transcript"), 0, -1)
            pipeline.lrange(self._key(session, "artifacts"), 0, -1)
            pipeline.hgetall(self._key(session, "state"))
            pipeline.hgetall(self._key(session, "checkpoints"))
            return await pipeline.execute()

    async def checkpoint(self, session: SessionKey, checkpoint_id: str) -> SessionCheckpoint:
        """One of how the session stands, not written yet."""
        transcript, artifacts, state, _ = await read_patiently(lambda: self._read_parts(session))
        return SessionCheckpoint(
            checkpoint_id=checkpoint_id,
            state={name: json.loads(text) for name, text in state.items()},
            transcript_length=len(transcript),
            artifact_count=len(artifacts),
        )

    async def checkpoint_ids(self, session: SessionKey, staged: Sequence[Sequence[str]] = ()) -> list[str]:
        """Its checkpoints by name, oldest first, with those that are staged; then the durable steps of its runs."""
        named = list(merge_checkpoints(await self.checkpoints(session), staged))
        for run in await self.stepped_runs(session):
            numbers = sorted(await self.steps(session, run))
            named += [step_checkpoint_id(split_run_id(run)[1], number) for number in numbers]
        return named

    async def edit(self, session: SessionKey, entries: Sequence[Sequence[str]], *, new: bool = False) -> None:
        """Write from outside a run. Raises SessionError while the session has an unfinished run, and if it is to be
        ``new`` and keeps something.
        """
        values = [uuid4().hex, session, int(new), *(json.dumps(list(entry)) for entry in entries)]
        self._check(await run_script(self._redis, "edit", partition_of(session, self._partitions), *values))

    async def checkpoints(self, session: SessionKey) -> dict[str, SessionCheckpoint]:
        """Those that were created by name, oldest first."""
        texts: dict[str, str] = await read_patiently(lambda: self._redis.hgetall(self._key(session, "checkpoints")))
        found = {name: SessionCheckpoint.model_validate_json(text) for name, text in texts.items()}
        return dict(sorted(found.items(), key=lambda item: item[1].created_at))

    async def steps(self, session: SessionKey, run: ScopedRunId) -> dict[int, str]:
        """The durable steps of a run of the session, number → delta; of another session's run none."""
        of, stored = await read_patiently(lambda: self._read_steps(session, run))
        if of != session:
            return {}
        return {int(number): text.partition(":")[2] for number, text in stored.items()}

    async def _read_steps(self, session: SessionKey, run: ScopedRunId) -> list[Any]:
        partition = partition_of(session, self._partitions)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hget(keys.run(partition, run), "session")
        pipeline.hgetall(keys.steps(partition, run))
        return await pipeline.execute()

    async def stepped_runs(self, session: SessionKey) -> list[ScopedRunId]:
        """The session's newest runs with durable steps, oldest first."""
        runs: list[str] = await read_patiently(lambda: self._redis.lrange(self._key(session, "stepped"), 0, -1))
        return [ScopedRunId(run) for run in runs]

    async def delete(self, session: SessionKey) -> None:
        """Forget state, transcript and artifacts. Raises SessionError while the session has an unfinished run."""
        reply = await run_script(self._redis, "delete_session", partition_of(session, self._partitions), session)
        self._check(reply)

    async def unpin(self, session: SessionKey) -> None:
        """The session's next run gets the current agents config; one that executes keeps what it has."""
        call: Any = self._redis.hdel(self._key(session, "meta"), "config_version")
        await call

    async def known(self, tenant: str) -> list[str]:
        """Session keys of a tenant that keep anything, sorted. Walks the whole key space: for people, not for runs."""
        found: set[str] = set()
        async for key in self._redis.scan_iter(match=keys.session_meta_pattern(tenant), count=1000):
            found.add(key.split(":session:", 1)[1].removesuffix(":meta"))
        return sorted(found)

    def _key(self, session: SessionKey, part: str) -> str:
        return keys.session_part(partition_of(session, self._partitions), session, part)

    @staticmethod
    def _check(reply: list[Any]) -> None:
        if reply[0] == "EXISTS":
            raise SessionError("the session exists", hint="choose an id that is not in use, or delete that session")
        if reply[0] == "BUSY":
            raise SessionError(
                "the session has an unfinished run", hint="wait for its result, or cancel it, then try again"
            )
