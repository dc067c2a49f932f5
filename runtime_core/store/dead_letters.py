"""Runs that were given up on: list them, show one with its history, submit it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from redis.asyncio import Redis

from runtime_core.contracts.dead_letter import DeadLetter, Interruption
from runtime_core.contracts.run import RunRequest, StopReason
from runtime_core.errors import InvalidInputError, RunDeadLetter
from runtime_core.ids import DEFAULT_TENANT, ScopedRunId, derived_run_id, split_run_id, split_session_key
from runtime_core.store import keys
from runtime_core.store.runs import RunStore, Submitted
from runtime_core.store.scripts import run_script


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterEntry:
    run: ScopedRunId
    session_id: str
    partition: int
    #: When it was given up on, ms by the clock of Redis.
    since_ms: int

    @property
    def run_id(self) -> str:
        return split_run_id(self.run)[1]


class DeadLetterStore:
    """Dead letters are kept for 30 days, the newest 10,000 of each partition."""

    def __init__(self, redis: Redis, runs: RunStore, partitions: int) -> None:
        self._redis = redis
        self._runs = runs
        self._partitions = partitions

    async def list(self, *, tenant: str = DEFAULT_TENANT, limit: int | None = 100) -> Sequence[DeadLetterEntry]:
        """A tenant's newest dead letters, newest first, or all of them: one round trip over all partitions."""
        pipeline = self._redis.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipeline.xrevrange(keys.dead(partition))
        found = [
            DeadLetterEntry(
                run=ScopedRunId(fields["run"]),
                session_id=split_session_key(fields["session"])[1],
                partition=partition,
                since_ms=int(entry.partition("-")[0]),
            )
            for partition, entries in enumerate(await pipeline.execute())
            for entry, fields in entries
            if split_run_id(fields["run"])[0] == tenant
        ]
        return sorted(found, key=lambda entry: entry.since_ms, reverse=True)[:limit]

    async def show(self, run: ScopedRunId) -> DeadLetter:
        """Raises RunNotFound, and InvalidInputError for a run that is no dead letter."""
        record = await self._runs.get(run)
        if record.status is not StopReason.DEAD_LETTER:
            raise InvalidInputError(
                f"run {run!r} is no dead letter: it is {record.status or record.state}",
                hint="`runlane dead list` shows those that are",
                run_id=record.run_id,
            )
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hmget(keys.run(record.partition, run), "request", "redriven_as")
        pipeline.lrange(keys.crashes(record.partition, run), 0, -1)
        (request, redriven_as), history = await pipeline.execute()
        return DeadLetter(
            record=record,
            request=_readable(request),
            history=[Interruption.model_validate_json(entry) for entry in history],
            redriven_as=redriven_as,
        )

    async def redrive(self, run: ScopedRunId) -> Submitted:
        """Submit a dead letter's request again, as a new run of the same session. A repeat finds that same run.

        Raises RunNotFound, InvalidInputError, RunDeadLetter (its request cannot be read), QueueFull.
        """
        letter = await self.show(run)
        tenant, run_id = split_run_id(run)
        if letter.request is None:
            raise RunDeadLetter(
                f"the request of run {run!r} cannot be read", hint="submit it anew from its source", run_id=run_id
            )
        metadata = letter.request.metadata | {"redrive_of": run_id}
        again = letter.request.model_copy(update={"run_id": derived_run_id("redrive", run), "metadata": metadata})
        submitted = await self._runs.submit(again, tenant=tenant)
        await run_script(self._redis, "redriven", letter.record.partition, run, again.run_id)
        return submitted


def _readable(request: str | None) -> RunRequest | None:
    try:
        return RunRequest.model_validate_json(request or "")
    except ValidationError:
        return None
