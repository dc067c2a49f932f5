"""Runs as producers and workers alike see them: submit, look up, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from pydantic_core import to_json
from redis.asyncio import Redis

from runtime_core.contracts.frame import RunIds
from runtime_core.contracts.run import ErrorDetails, RunRecord, RunRequest, refuse_object_as_deps
from runtime_core.doorbell import argsrepr, doorbell
from runtime_core.errors import ConfigError, InvalidInputError, QueueFull, RunConflict, RunlaneError, RunNotFound
from runtime_core.ids import (
    DEFAULT_TENANT,
    ScopedRunId,
    check_name,
    scoped_run_id,
    session_key,
    split_run_id,
)
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.blocking import BlockingConnections
from runtime_core.store.connection import RETRYABLE
from runtime_core.store.digests import request_digest
from runtime_core.store.meta import store_mismatch
from runtime_core.store.reads import Read, partition_of_run, record_of_run, run_not_found
from runtime_core.store.scripts import Argument, run_script, run_scripts

T = TypeVar("T")

#: Unfinished runs that a session and a partition may have, unless the settings say otherwise.
DEFAULT_SESSION_LIMIT = 1_000
DEFAULT_PARTITION_LIMIT = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    #: Its Celery task id too.
    run: ScopedRunId
    partition: int
    #: False: the same run had been submitted before.
    created: bool


class Submission(NamedTuple):
    """A run that is to be accepted: what its script call says."""

    partition: int
    run: ScopedRunId
    values: list[Argument]


class CancelOutcome(StrEnum):
    #: It was queued, and will never start.
    CANCELLED = "cancelled"
    #: It is running; its worker has been told.
    CANCELLING = "cancelling"
    #: Too late.
    FINISHED = "finished"


class RunStore:
    """1. ``submit`` returns once the run is accepted: from then on it finishes exactly once in its record.

    2. Submitting the same run id again returns the same run while its record lives; with another body or session it
       raises RunConflict.
    3. A session or partition that has as many unfinished runs as its limit takes no more: QueueFull says when to try
       again.
    4. A run with ``parent_run_id`` is a child of that run, if the fleet knows it: cancelling the parent cancels it.
    """

    def __init__(
        self,
        redis: Redis,
        partitions: int,
        *,
        session_limit: int = DEFAULT_SESSION_LIMIT,
        partition_limit: int = DEFAULT_PARTITION_LIMIT,
    ) -> None:
        for name, limit in (("session_limit", session_limit), ("partition_limit", partition_limit)):
            if limit < 1:
                raise ConfigError(f"{name} is {limit}", hint=f"{name} is a number of unfinished runs, 1 or more")
        self._redis = redis
        self.partitions = partitions
        self._limits = session_limit, partition_limit

    async def submit(self, request: RunRequest, *, tenant: str = DEFAULT_TENANT) -> Submitted:
        """Accept one run, in one round trip.

        Raises QueueFull, RunConflict (also for a child whose parent is cancelled), InvalidInputError, ConfigError
        (another store).
        """
        sent = self._submission(request, tenant)
        return self._submitted(sent, await run_script(self._redis, "submit", sent.partition, *sent.values))

    def submit_blocking(
        self, connections: BlockingConnections, request: RunRequest, *, tenant: str = DEFAULT_TENANT
    ) -> Submitted:
        """``submit`` for a caller without an event loop; from any thread."""
        sent = self._submission(request, tenant)
        return self._submitted(sent, connections.run_script("submit", sent.partition, *sent.values))

    async def submit_many(
        self, requests: Sequence[RunRequest], *, tenant: str = DEFAULT_TENANT
    ) -> list[Submitted | RunlaneError]:
        """Accept many runs in one round trip, in order. One outcome per item; one that is refused stops no other."""
        return await self.send_many(self.prepare_many(requests, tenant=tenant))

    def prepare_many(
        self, requests: Sequence[RunRequest], *, tenant: str = DEFAULT_TENANT
    ) -> list[Submission | RunlaneError]:
        """The half of ``submit_many`` that needs no Redis: what ``send_many`` is to send, or why it cannot."""
        prepared: list[Submission | RunlaneError] = []
        for request in requests:
            try:
                prepared.append(self._submission(request, tenant))
            except RunlaneError as error:
                prepared.append(error)
        return prepared

    async def send_many(self, prepared: Sequence[Submission | RunlaneError]) -> list[Submitted | RunlaneError]:
        """The other half: one round trip."""
        sent = [one for one in prepared if isinstance(one, Submission)]
        replies = await run_scripts(self._redis, "submit", [(one.partition, one.values) for one in sent])
        if replies and all(isinstance(reply, RETRYABLE) for reply in replies):
            raise replies[0]
        answers = iter(replies)
        return [self._outcome(one, next(answers)) if isinstance(one, Submission) else one for one in prepared]

    def partition_of(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> int:
        """Where the runs of a session are."""
        return partition_of(session_key(tenant, session_id), self.partitions)

    async def locate(self, run: ScopedRunId) -> int:
        """The partition of a run. Raises RunNotFound."""
        return await self._get(partition_of_run(run))

    async def get(self, run: ScopedRunId) -> RunRecord:
        """What the store says of a run now. Raises RunNotFound."""
        return await self._get(record_of_run(await self.locate(run), run))

    async def cancel(self, run: ScopedRunId) -> CancelOutcome:
        """Cancel a run wherever it is, and its children, and theirs. Raises RunNotFound.

        May be repeated: what a caller that died left undone is done by the next, or by the worker that owns the run.
        """
        partition = await self.locate(run)
        word, *cascade = await run_script(self._redis, "cancel", partition, run)
        if word == "GONE":
            raise run_not_found(run)
        if cascade:
            for child in cascade[0]:
                with contextlib.suppress(RunNotFound):  # it is long over
                    await self.cancel(ScopedRunId(child))
            await run_script(self._redis, "cascaded", partition, run)
        return CancelOutcome(word.lower())

    async def refuse(
        self, *, tenant: str, run_id: str, session_id: str, agent_id: str, error: ErrorDetails
    ) -> ScopedRunId:
        """Record a request that cannot become a run as finished{failed}, so that its sender finds why by its id."""
        run, session = scoped_run_id(tenant, run_id), session_key(tenant, session_id)
        ids = RunIds(run_id=run_id, session_id=session_id, agent_id=agent_id)
        await run_script(
            self._redis,
            "refuse",
            partition_of(session, self.partitions),
            run,
            session,
            ids.as_json,
            agent_id,
            error.model_dump_json(),
        )
        return run

    def _submission(self, request: RunRequest, tenant: str) -> Submission:
        check_name("tenant", tenant)
        refuse_object_as_deps(request)
        try:
            body = request.model_dump_json()
        except ValueError as error:
            raise InvalidInputError(
                f"the request cannot be written as JSON: {error}",
                hint="metadata and context_hints take JSON values only, output_type a class that has a JSON schema",
                run_id=request.run_id,
            ) from error
        run = scoped_run_id(tenant, request.run_id)
        session = session_key(tenant, request.session_id)
        partition = partition_of(session, self.partitions)
        readable = argsrepr(request.agent_id, request.session_id, len(request.input_text), tenant)
        return Submission(
            partition,
            run,
            [
                run,
                session,
                request_digest(body),
                body,
                doorbell(run, queue=keys.queue(partition), argsrepr=readable),
                RunIds.of(request).as_json,
                request.agent_id,
                to_json({"input_length": len(request.input_text)}),
                self.partitions,
                keys.PROTOCOL_VERSION,
                *self._limits,
                request.queue_deadline_ms or 0,
                scoped_run_id(tenant, request.parent_run_id) if request.parent_run_id else "",
            ],
        )

    @staticmethod
    def _submitted(sent: Submission, reply: list[Any]) -> Submitted:
        run = sent.run
        match reply[0]:
            case "OK" | "KNOWN":
                return Submitted(run=run, partition=sent.partition, created=reply[0] == "OK")
            case "CONFLICT":
                raise RunConflict(
                    f"run id {run!r} is taken by another request",
                    hint="use a new run id; the same id only repeats the very same request",
                    run_id=split_run_id(run)[1],
                )
            case "CANCELLED":
                raise RunConflict(
                    "the parent run is cancelled and takes no children",
                    hint="submit it without parent_run_id if it should run all the same",
                    run_id=split_run_id(run)[1],
                )
            case "FULL":
                _, what, waiting, retry_after_ms = reply
                raise QueueFull(
                    f"the {what} has {waiting} unfinished runs, as many as it may",
                    hint=f"try again in {retry_after_ms} ms, or raise RUNLANE_{what.upper()}_QUEUE_LIMIT",
                    run_id=split_run_id(run)[1],
                    retry_after_ms=int(retry_after_ms),
                )
            case _:
                raise store_mismatch(reply[1], reply[2])

    def _outcome(self, sent: Submission, reply: Any) -> Submitted | RunlaneError:
        if isinstance(reply, Exception):
            return RunlaneError(f"Redis refused the run: {reply}", run_id=split_run_id(sent.run)[1])
        try:
            return self._submitted(sent, reply)
        except RunlaneError as error:
            return error

    async def _get(self, read: Read[T]) -> T:
        call: Any = self._redis.execute_command(*read.command)
        return read.parse(await call)
