"""Attempts as the worker that executes them sees them. Every write carries the lease; a stale one raises LeaseLost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from redis.asyncio import Redis

from runtime_core.contracts.frame import RunIds
from runtime_core.contracts.host import Approval, Decision
from runtime_core.contracts.run import ErrorDetails, RunRequest, RunResult, StopReason
from runtime_core.errors import RunConflict
from runtime_core.ids import ScopedRunId, SessionKey, scoped_run_id, session_key
from runtime_core.session_cache import DEFAULT_IDLE_SECONDS
from runtime_core.store import keys
from runtime_core.store.digests import request_digest
from runtime_core.store.leases import Lease
from runtime_core.store.scripts import Argument, fenced, run_script


class NumberedFrame(NamedTuple):
    """A frame ready to be written."""

    sequence: int
    logged: bool
    data: bytes
    #: Its payload as JSON, if that is too large to stand in ``data``; stored once, beside the log.
    payload: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Permission to execute one attempt."""

    run: ScopedRunId
    session: SessionKey
    lease: Lease
    attempt: int
    #: The last sequence given out, that of its run.started; the attempt's own first frame is this + 1.
    sequence: int
    #: The RunRequest as JSON text.
    request: str
    config_version: int
    #: Milliseconds from its submit to this admission, by the clock of Redis.
    waited_ms: int = 0
    #: Session writes that earlier attempts staged up to their last durable step: the attempt goes on behind them.
    staged: int = 0
    #: Durable steps that earlier attempts took: step → delta.
    steps: Mapping[str, str] = field(default_factory=dict)


class RefusalReason(StrEnum):
    #: This worker does not own the partition (any more).
    FENCED = "fenced"
    #: There is no record.
    GONE = "gone"
    #: The run is finished.
    FINISHED = "finished"
    #: It executes already; this is a second doorbell.
    DUPLICATE = "duplicate"
    #: Another run of the session comes first.
    NOT_HEAD = "not_head"
    #: Code of the session's last run has not ended.
    BUSY = "busy"
    #: A run that one more death of a worker would end has its first seconds on this one to itself, or would have.
    PROBATION = "probation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    run: ScopedRunId
    reason: RefusalReason
    #: Set when the run ended without an attempt to report it: this doorbell is to emit it, once.
    announce: StopReason | None = None
    error: ErrorDetails | None = None


class AttemptStore:
    """1. ``admit`` starts at most one attempt per run and fence, only for a mailbox's head, only under a valid lease.

    2. ``append``, ``stage``, ``step`` and ``finish`` change nothing unless the attempt is the one that executes now,
       under this lease; otherwise they raise LeaseLost.
    3. Each may be repeated with the same arguments after a lost reply.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def admit(
        self,
        lease: Lease,
        run: ScopedRunId,
        *,
        nonce: str,
        config_version: int,
        session_idle_s: float = DEFAULT_IDLE_SECONDS,
    ) -> Admission | Refusal:
        """Decide about a doorbell. ``nonce`` names the delivery.

        ``config_version`` is what a new session gets, and one whose last run ended more than ``session_idle_s`` ago.
        """
        idle_ms = round(session_idle_s * 1000)
        reply = await run_script(
            self._redis, "admit", lease.partition, lease.owner, lease.fence, run, nonce, config_version, idle_ms
        )
        if reply[0] == "OK":
            _, attempt, sequence, request, pinned, session, staged, steps, waited_ms = reply
            return Admission(
                run=run,
                session=SessionKey(session),
                lease=lease,
                attempt=int(attempt),
                sequence=int(sequence),
                request=request,
                config_version=int(pinned),
                waited_ms=int(waited_ms),
                staged=int(staged),
                steps=_deltas(steps),
            )
        reason = RefusalReason(reply[0].lower())
        if reason is RefusalReason.FINISHED and reply[1]:
            error = RunResult.model_validate_json(reply[2]).error_details
            return Refusal(run=run, reason=reason, announce=StopReason(reply[1]), error=error)
        return Refusal(run=run, reason=reason)

    async def append(self, admission: Admission, frames: Sequence[NumberedFrame]) -> bool:
        """Append and publish a batch, in order. True if the run is to be cancelled."""
        reply = await self._write("append", admission, *_batch(frames))
        return reply[1] == "1"

    async def stage(self, admission: Admission, first_index: int, entries: Sequence[str]) -> None:
        """Keep session writes (JSON text each, see sessions.py) with the run; ``first_index`` counts those before."""
        await self._write("stage", admission, first_index, *entries)

    async def staged(self, admission: Admission) -> list[list[str]]:
        """The session writes that earlier attempts staged and this one keeps."""
        key = keys.staged(admission.lease.partition, admission.run)
        call: Any = self._redis.lrange(key, 0, admission.staged - 1)
        return [json.loads(text) for text in await call]

    async def step(self, admission: Admission, step: str, delta: str) -> bool:
        """Write a durable step once; a step already written keeps its delta. True if the run is to be cancelled."""
        reply = await self._write("step", admission, step, delta)
        return reply[1] == "1"

    async def wait(
        self, admission: Admission, waiting_for: str, *, asked: Approval | None = None
    ) -> tuple[bool, Approval | None]:
        """The attempt waits for something, or for nothing any more (``""``): (is it to be cancelled, ``asked``).

        What is asked is kept with the run. It comes back as it was first asked, with its decision if there is one.
        """
        asking = (asked.call_id, asked.model_dump_json(exclude={"decision"})) if asked else ("", "")
        _, cancel, decision, first = await self._write("wait", admission, waiting_for, *asking)
        if not first:
            return cancel == "1", None
        decided = {"decision": Decision.model_validate_json(decision)} if decision else {}
        return cancel == "1", Approval.model_validate_json(first).model_copy(update=decided)

    async def add_child(self, parent: Admission, request: RunRequest, *, tenant: str) -> Admission | None:
        """Begin a child run in its parent's session, within its attempt; one that an earlier attempt of the parent left
        goes on behind its newest step. None if it has finished.

        Raises RunConflict if the id is another run's.
        """
        body = request.model_dump_json()
        run = scoped_run_id(tenant, request.run_id)
        ids = RunIds.of(request).as_json
        session = session_key(tenant, request.session_id)
        reply = await run_script(
            self._redis,
            "add_child",
            parent.lease.partition,
            *(parent.lease.owner, parent.lease.fence, parent.run, parent.attempt),
            *(run, session, request_digest(body), body, ids, request.agent_id),
        )
        match reply[0]:
            case "FINISHED":
                return None
            case "CONFLICT":
                raise RunConflict(f"run id {run!r} is taken by another run", run_id=request.run_id)
            case _:
                _, attempt, sequence, staged, steps = fenced(reply, f"a child of run {parent.run}")
        return Admission(
            run=run,
            session=session,
            lease=parent.lease,
            attempt=int(attempt),
            sequence=int(sequence),
            request=body,
            config_version=parent.config_version,
            staged=int(staged),
            steps=_deltas(steps),
        )

    async def finish(
        self,
        admission: Admission,
        *,
        result: RunResult,
        terminal: tuple[int, bytes],
        frames: Sequence[NumberedFrame] = (),
        hold_session: bool = False,
    ) -> None:
        """End the run. ``terminal`` is (sequence, bytes) of its last frame, ``frames`` what goes before it.

        With ``hold_session`` the session's next run waits until ``free_session``: code of this one is still alive.
        """
        await self._write(
            "finish",
            admission,
            result.stop_reason.value,
            result.model_dump_json(),
            *terminal,
            int(hold_session),
            *_batch(frames),
        )

    async def free_session(self, admission: Admission) -> None:
        """The code of a run that was finished with ``hold_session`` has ended."""
        lease = admission.lease
        reply = await run_script(self._redis, "free", lease.partition, lease.owner, lease.fence, admission.run)
        fenced(reply, f"free of the session of run {admission.run}")

    async def repair(self, lease: Lease, run: ScopedRunId, attempt: int) -> bool:
        """Send a run that is marked running but does not execute back to its mailbox. False if that has passed."""
        reply = await run_script(self._redis, "repair", lease.partition, lease.owner, lease.fence, run, attempt)
        return reply[0] == "OK"

    async def _write(self, script: str, admission: Admission, *values: Argument) -> list[str]:
        lease = admission.lease
        reply = await run_script(
            self._redis, script, lease.partition, lease.owner, lease.fence, admission.run, admission.attempt, *values
        )
        return fenced(reply, f"{script} of run {admission.run}, attempt {admission.attempt}")


def _batch(frames: Sequence[NumberedFrame]) -> list[Argument]:
    values: list[Argument] = []
    for frame in frames:
        values += (frame.sequence, int(frame.logged), frame.data, frame.payload)
    return values


def _deltas(steps: Sequence[str]) -> dict[str, str]:
    """Step → delta, of the flat list that scripts return."""
    return dict(zip(steps[::2], steps[1::2], strict=True))
