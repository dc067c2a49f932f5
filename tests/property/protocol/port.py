"""The verbs of the protocol over the public store classes; ``model.Model`` has the same verbs over plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import redis

from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds, encode_frame
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import leases as lease_store
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from runtime_core.store.dead_letters import DeadLetterStore
from runtime_core.store.leases import Lease, LeaseStore
from runtime_core.store.runs import RunStore
from tests.property.protocol.timed_redis import AwaitedRedis, TimedRedis, finished

PARTITIONS = 2
#: Limits of a client that is refused soon: unfinished runs of a session, of a partition.
TIGHT = (2, 4)


class Port:
    def __init__(self, timed: TimedRedis) -> None:
        self._timed = timed
        client: Any = AwaitedRedis(timed)
        self._runs = RunStore(client, PARTITIONS)
        self._tight_runs = RunStore(client, PARTITIONS, session_limit=TIGHT[0], partition_limit=TIGHT[1])
        self._attempts = AttemptStore(client)
        self._leases = LeaseStore(client)
        self._dead = DeadLetterStore(client, self._runs, PARTITIONS)
        #: Every permission to execute that was given, oldest first.
        self.admissions: list[Admission] = []

    def submit(self, request: RunRequest, tight: bool) -> bool:
        store = self._tight_runs if tight else self._runs
        return finished(store.submit(request)).created

    def cancel(self, run: ScopedRunId) -> str:
        return finished(self._runs.cancel(run)).value

    def cancel_and_break(self, run: ScopedRunId) -> str:
        """The client dies once the run itself is cancelled: nobody has told its children."""
        self._timed.breaks_after = 1
        try:
            answer = self.cancel(run)
        except redis.ConnectionError:
            answer = "broken"
        self._timed.breaks_after = None
        return answer

    def redrive(self, run: ScopedRunId) -> bool:
        return finished(self._dead.redrive(run)).created

    def heartbeat(self, worker: str, accepting: bool) -> None:
        finished(self._leases.heartbeat(worker, {"host": "here"}, accepting=accepting))

    def acquire(self, partition: int, owner: str) -> Lease | None:
        return finished(self._leases.acquire(partition, owner))

    def renew(self, lease: Lease) -> set[str]:
        (answer,) = lease_store.renew(cast(redis.Redis, self._timed), [lease])
        if isinstance(answer, RunlaneError):
            raise answer
        return set(answer.cancels)

    def release(self, lease: Lease, heir: str) -> None:
        finished(self._leases.release(lease, reserved_for=heir))

    def sweep(self, lease: Lease, in_hand: int) -> tuple[set[tuple[str, int]], set[str]]:
        (swept,) = finished(self._leases.sweep({lease: in_hand}))
        if isinstance(swept, RunlaneError):
            raise swept
        return {(run, attempt) for run, attempt in swept.running}, set(swept.cascades)

    def admit(self, lease: Lease, run: ScopedRunId, nonce: str, config_version: int) -> tuple[Any, ...]:
        decision = finished(self._attempts.admit(lease, run, nonce=nonce, config_version=config_version))
        if not isinstance(decision, Admission):
            return decision.reason, decision.announce
        self.admissions.append(decision)
        return decision.attempt, decision.sequence, decision.config_version, decision.staged, dict(decision.steps)

    def append(self, admission: Admission, frames: Sequence[tuple[int, bool, str]]) -> bool:
        return finished(self._attempts.append(admission, _batch(admission, frames)))

    def stage(self, admission: Admission, first_index: int, messages: Sequence[str]) -> None:
        entries = [f'["message","","{message}"]' for message in messages]
        finished(self._attempts.stage(admission, first_index, entries))

    def step(self, admission: Admission, step: str, delta: str) -> bool:
        return finished(self._attempts.step(admission, step, delta))

    def finish(
        self,
        admission: Admission,
        frames: Sequence[tuple[int, bool, str]],
        sequence: int,
        status: StopReason,
        hold: bool,
    ) -> None:
        result = RunResult(run_id=admission.run, stop_reason=status, final_output=f"attempt {admission.attempt}")
        terminal = sequence, _frame(admission, sequence, True, TERMINAL_EVENT, status)
        batch = _batch(admission, frames)
        finished(self._attempts.finish(admission, result=result, terminal=terminal, frames=batch, hold_session=hold))

    def free(self, admission: Admission) -> None:
        finished(self._attempts.free_session(admission))

    def repair(self, lease: Lease, run: ScopedRunId, attempt: int) -> bool:
        return finished(self._attempts.repair(lease, run, attempt))


def _batch(admission: Admission, frames: Sequence[tuple[int, bool, str]]) -> list[NumberedFrame]:
    return [
        NumberedFrame(sequence, logged, _frame(admission, sequence, logged, "step", text))
        for sequence, logged, text in frames
    ]


def _frame(admission: Admission, sequence: int, logged: bool, event: str, text: str) -> bytes:
    return encode_frame(
        Frame(
            logged=logged,
            sequence=sequence,
            attempt=admission.attempt,
            event=event,
            timestamp_ms=0,
            ids=RunIds(run_id=admission.run, session_id="s", agent_id="a"),
            payload={"text": text},
        )
    )
