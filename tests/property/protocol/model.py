"""What DESIGN §3 and §4 promise of the store, in plain Python: no Redis, no scripts. Same verbs as ``port.Port``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.errors import InvalidInputError, LeaseLost, QueueFull, RunConflict, RunlaneError, RunNotFound
from runtime_core.ids import ScopedRunId, derived_run_id, session_key
from runtime_core.partitioning import partition_of
from runtime_core.store.attempts import Admission, RefusalReason
from runtime_core.store.leases import Lease
from tests.property.protocol.port import PARTITIONS, TIGHT
from tests.property.protocol.timed_redis import START_MS

TTL_MS = 6_000
WORKER_TTL_MS = 3_000
RESERVATION_MS = 3_000
#: Heartbeats further apart than this prove nothing about the time between them.
PULSE_GAP_MS = 2_000
#: How long a run that one more charge would end is alone on its worker, and a suspect is fresh.
FRESH_MS, SOLO_MS = 5_000, 6_500


@dataclass(kw_only=True)
class Run:
    id: ScopedRunId
    request: RunRequest
    session: str
    partition: int
    submitted_ms: int
    deadline_ms: int | None
    state: RunState = RunState.QUEUED
    status: StopReason | None = None
    attempt: int = 0
    owner: str = ""
    fence: str = ""
    nonce: str = ""
    config_version: int | None = None
    cancel: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)
    #: Logged frames, dense from sequence 1: (attempt, event, text).
    log: list[tuple[int, str, str]] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    steps: dict[str, tuple[int, str]] = field(default_factory=dict)
    children: set[ScopedRunId] = field(default_factory=set)
    #: Its own attempt wrote finish; else a doorbell reports the end, that of this nonce ('' while none has).
    finished_by_attempt: bool = False
    announced: str = ""

    def is_current(self, attempt: int, fence: str) -> bool:
        return self.state is RunState.RUNNING and (self.attempt, self.fence) == (attempt, fence)


@dataclass(kw_only=True)
class Session:
    partition: int
    mailbox: list[ScopedRunId] = field(default_factory=list)
    live: ScopedRunId | None = None
    transcript: list[str] = field(default_factory=list)
    config_version: int | None = None


@dataclass(kw_only=True)
class Partition:
    owner: str = ""
    fence: int = 0
    expires_ms: int = 0
    reserved_for: str = ""
    reserved_until_ms: int = 0
    cascades: set[ScopedRunId] = field(default_factory=set)


class Model:
    def __init__(self) -> None:
        self.now = START_MS
        self.runs: dict[ScopedRunId, Run] = {}
        self.sessions: dict[str, Session] = {}
        self.partitions = [Partition() for _ in range(PARTITIONS)]
        self.workers: dict[str, int] = {}
        self.members: dict[str, int] = {}
        self.pulse: tuple[int, int] | None = None
        #: worker → run → (when it began to execute there, crashes charged to it by then)
        self.probation: dict[str, dict[ScopedRunId, tuple[int, int]]] = {}

    def owns(self, lease: Lease, *, strict: bool = False) -> bool:
        partition = self.partitions[lease.partition]
        same = (partition.owner, str(partition.fence)) == (lease.owner, lease.fence)
        return same and (not strict or partition.expires_ms > self.now)

    def unfinished(self, partition: int) -> list[Run]:
        return [run for run in self.runs.values() if run.partition == partition and run.state != RunState.FINISHED]

    def submit(self, request: RunRequest, tight: bool) -> bool:
        run_id = ScopedRunId(request.run_id)
        known = self.runs.get(run_id)
        parent = self.runs.get(ScopedRunId(request.parent_run_id or ""))
        if known is not None:
            if known.request != request:
                raise RunConflict("taken")
            return False
        key = session_key("default", request.session_id)
        partition = partition_of(key, PARTITIONS)
        session = self.sessions.get(key) or Session(partition=partition)
        if tight and (len(session.mailbox) >= TIGHT[0] or len(self.unfinished(partition)) >= TIGHT[1]):
            raise QueueFull("full")
        if parent is not None and (parent.cancel or parent.status is StopReason.CANCELLED):
            raise RunConflict("its parent is cancelled")
        if parent is not None and parent.state is not RunState.FINISHED:
            parent.children.add(run_id)
        self.sessions[key] = session
        deadline = request.queue_deadline_ms
        run = Run(
            id=run_id,
            request=request,
            session=key,
            partition=partition,
            submitted_ms=self.now,
            deadline_ms=None if deadline is None else self.now + deadline,
            log=[(0, "run.queued", "")],
        )
        self.runs[run_id] = run
        session.mailbox.append(run_id)
        return True

    def cancel(self, run: ScopedRunId, seen: frozenset[ScopedRunId] = frozenset()) -> str:
        answer = self.cancel_and_break(run, broken=False)
        cascades = self.partitions[self.runs[run].partition].cascades
        if run in cascades:
            for child in (self.runs[run].children & self.runs.keys()) - seen - {run}:
                self.cancel(child, seen | {run})
            cascades.discard(run)
        return answer

    def cancel_and_break(self, run: ScopedRunId, *, broken: bool = True) -> str:
        record = self._known(run)
        cascades = self.partitions[record.partition].cascades
        answer = "finished"
        if record.state is not RunState.FINISHED:
            if record.children:
                cascades.add(run)
            if record.state is RunState.QUEUED:
                self._finish(record, StopReason.CANCELLED)
                answer = "cancelled"
            else:
                record.cancel = True
                answer = "cancelling"
        return "broken" if broken and run in cascades else answer

    def redrive(self, run: ScopedRunId) -> bool:
        record = self._known(run)
        if record.status is not StopReason.DEAD_LETTER:
            raise InvalidInputError("no dead letter")
        metadata = record.request.metadata | {"redrive_of": run}
        again = {"run_id": derived_run_id("redrive", run), "metadata": metadata}
        return self.submit(record.request.model_copy(update=again), False)

    def heartbeat(self, worker: str, accepting: bool) -> None:
        self.pulse = self._steady_since(), self.now
        self.workers[worker] = self.now + WORKER_TTL_MS
        self.members[worker] = self.now + WORKER_TTL_MS
        if not accepting:
            del self.members[worker]
        for beats in (self.workers, self.members):
            for name in [name for name, until in beats.items() if until <= self.now - 60_000]:
                del beats[name]

    def acquire(self, partition: int, owner: str) -> Lease | None:
        lease, worker = self.partitions[partition], owner.partition("#")[0]
        if lease.owner == owner:
            lease.expires_ms = self.now + TTL_MS
            return Lease(partition, owner, str(lease.fence))
        if lease.owner:
            if self.now - max(lease.expires_ms - TTL_MS, self._steady_since()) < TTL_MS:
                return None
        elif (
            lease.reserved_for not in ("", worker)
            and lease.reserved_until_ms > self.now
            and self.members.get(lease.reserved_for, 0) > self.now
        ):
            return None
        last, died_ms = lease.owner.partition("#")[0], lease.expires_ms - TTL_MS
        lease.owner, lease.fence = owner, max(lease.fence + 1, self.now)
        lease.expires_ms, lease.reserved_for, lease.reserved_until_ms = self.now + TTL_MS, "", 0
        suspects = self.probation.get(last, {})
        fresh = {run for run, (entered_ms, _) in suspects.items() if died_ms - entered_ms < FRESH_MS}
        for run in self._live(partition):
            if self.workers.get(last, 0) > self.now:
                self._requeue(run, "interruptions")
            else:
                self._requeue(run, "spared" if suspects and run.id not in (fresh or suspects) else "crashes")
        return Lease(partition, owner, str(lease.fence))

    def renew(self, lease: Lease) -> set[str]:
        self._check(lease)
        self.partitions[lease.partition].expires_ms = self.now + TTL_MS
        return {run.id for run in self.unfinished(lease.partition) if run.cancel}

    def release(self, lease: Lease, heir: str) -> None:
        if not self.owns(lease):
            return
        for run in self._live(lease.partition):
            self._requeue(run, "handovers")
        partition = self.partitions[lease.partition]
        partition.owner, partition.expires_ms, partition.reserved_for = "", 0, heir
        partition.reserved_until_ms = self.now + (RESERVATION_MS if heir else 0)

    def sweep(self, lease: Lease, in_hand: int) -> tuple[set[tuple[str, int]], set[str]]:
        self._check(lease, strict=True)
        for run in self.unfinished(lease.partition):
            self._expire(run)
        running = [run for run in self.unfinished(lease.partition) if run.state is RunState.RUNNING]
        return {(run.id, run.attempt) for run in running}, set(self.partitions[lease.partition].cascades)

    def admit(self, lease: Lease, run: ScopedRunId, nonce: str, config_version: int) -> tuple[Any, ...]:
        if not self.owns(lease, strict=True):
            return RefusalReason.FENCED, None
        record = self.runs.get(run)
        if record is None or record.partition != lease.partition:
            return RefusalReason.GONE, None
        self._expire(record)
        if record.state is RunState.FINISHED:
            if record.finished_by_attempt or record.announced not in ("", nonce):
                return RefusalReason.FINISHED, None
            record.announced = nonce
            return RefusalReason.FINISHED, record.status
        session = self.sessions[record.session]
        kept = max((staged for staged, _ in record.steps.values()), default=0)
        if record.state is RunState.RUNNING:
            if (record.nonce, record.fence) != (nonce, lease.fence):
                return RefusalReason.DUPLICATE, None
        else:
            if session.mailbox[0] != run:
                return RefusalReason.NOT_HEAD, None
            if session.live is not None:
                return RefusalReason.BUSY, None
            if not self._may_start(record, lease.owner.partition("#")[0]):
                return RefusalReason.PROBATION, None
            record.config_version = session.config_version = session.config_version or config_version
            record.state, record.attempt, record.deadline_ms = RunState.RUNNING, record.attempt + 1, None
            record.owner, record.fence, record.nonce = lease.owner, lease.fence, nonce
            session.live = run
            record.log.append((record.attempt, "run.started", ""))
            del record.staged[kept:]
        steps = {name: delta for name, (_, delta) in record.steps.items()}
        return record.attempt, len(record.log), record.config_version, kept, steps

    def append(self, admission: Admission, frames: Sequence[tuple[int, bool, str]]) -> bool:
        run = self._current(admission)
        run.log += self._fresh(run, admission, frames)
        return run.cancel

    def _fresh(
        self, run: Run, admission: Admission, frames: Sequence[tuple[int, bool, str]]
    ) -> list[tuple[int, str, str]]:
        last, fresh = len(run.log), list[tuple[int, str, str]]()
        for sequence, logged, text in frames:
            if not logged:
                continue
            if sequence > last + len(fresh) + 1:
                raise RunlaneError("a gap")
            stored = [*run.log, *fresh][sequence - 1 : sequence]
            if stored and stored[0] != (admission.attempt, "step", text):
                raise RunlaneError("another content")
            if not stored:
                fresh.append((admission.attempt, "step", text))
        return fresh

    def stage(self, admission: Admission, first_index: int, messages: Sequence[str]) -> None:
        run = self._current(admission)
        if first_index > len(run.staged):
            raise RunlaneError("a gap")
        run.staged += messages[len(run.staged) - first_index :]

    def step(self, admission: Admission, step: str, delta: str) -> bool:
        run = self._current(admission)
        run.steps.setdefault(step, (len(run.staged), delta))
        return run.cancel

    def finish(
        self,
        admission: Admission,
        frames: Sequence[tuple[int, bool, str]],
        sequence: int,
        status: StopReason,
        hold: bool,
    ) -> None:
        run = self.runs[admission.run]
        same = (run.attempt, run.owner, run.fence) == (admission.attempt, admission.lease.owner, admission.lease.fence)
        if run.finished_by_attempt and same:
            return
        self._current(admission)
        fresh = self._fresh(run, admission, frames)
        if sequence != len(run.log) + len(fresh) + 1:
            raise RunlaneError("a gap")
        run.log += fresh
        self._suspects(run).pop(run.id, None)
        run.finished_by_attempt = True
        self.sessions[run.session].transcript += run.staged
        self._finish(run, status, status, hold)

    def free(self, admission: Admission) -> None:
        self._check(admission.lease)
        run = self.runs[admission.run]
        session = self.sessions[run.session]
        if run.state is RunState.FINISHED and session.live == run.id:
            session.live = None

    def repair(self, lease: Lease, run: ScopedRunId, attempt: int) -> bool:
        record = self.runs[run]
        if record.partition != lease.partition or not self.owns(lease, strict=True):
            return False
        if not record.is_current(attempt, lease.fence):
            return False
        self._requeue(record, "interruptions")
        return True

    def _steady_since(self) -> int:
        """Since when heartbeats followed each other without a gap."""
        if self.pulse is None or self.now - self.pulse[1] > PULSE_GAP_MS:
            return self.now
        return self.pulse[0]

    def _check(self, lease: Lease, *, strict: bool = False) -> None:
        if not self.owns(lease, strict=strict):
            raise LeaseLost("fenced")

    def _current(self, admission: Admission) -> Run:
        self._check(admission.lease)
        run = self.runs[admission.run]
        if not run.is_current(admission.attempt, admission.lease.fence):
            raise LeaseLost("stale")
        return run

    def _known(self, run: ScopedRunId) -> Run:
        if run not in self.runs:
            raise RunNotFound("unknown")
        return self.runs[run]

    def _live(self, partition: int) -> list[Run]:
        live = [self.runs[session.live] for session in self.sessions.values() if session.live is not None]
        return [run for run in live if run.partition == partition]

    def _suspects(self, run: Run) -> dict[ScopedRunId, tuple[int, int]]:
        return self.probation.setdefault(run.owner.partition("#")[0], {})

    def _may_start(self, run: Run, worker: str) -> bool:
        suspects = self.probation.setdefault(worker, {})
        for other, (entered_ms, charges) in suspects.items():
            if other != run.id and self.now - entered_ms < SOLO_MS and max(charges, run.counts["charges"]) >= 2:
                return False
        if run.counts["crashes"] >= 2 or run.counts["spared"]:
            suspects[run.id] = self.now, run.counts["charges"]
        return True

    def _expire(self, run: Run) -> None:
        if run.state is RunState.QUEUED and run.deadline_ms is not None and run.deadline_ms <= self.now:
            self._finish(run, StopReason.TIMEOUT)

    def _requeue(self, run: Run, why: str) -> None:
        self.sessions[run.session].live = None
        if run.state is RunState.FINISHED:  # only its code was alive
            return
        run.counts[why] += 1
        run.history.append(why)
        charged = why == "crashes" and run.id in self._suspects(run)
        if charged:
            run.counts["charges"] += 1
        if why != "crashes":
            self._suspects(run).pop(run.id, None)
        if run.cancel:
            self._finish(run, StopReason.CANCELLED)
        elif (
            (why == "crashes" and run.counts[why] >= 8)
            or (why == "interruptions" and run.counts[why] >= 5)
            or (charged and run.counts["charges"] >= 3)
        ):
            self._finish(run, StopReason.DEAD_LETTER)
        else:
            run.state, run.nonce = RunState.QUEUED, ""
            run.log.append((run.attempt, "run.interrupted", ""))

    def _finish(self, run: Run, status: StopReason, text: str = "", hold: bool = False) -> None:
        session = self.sessions[run.session]
        run.state, run.status = RunState.FINISHED, status
        run.log.append((run.attempt, "run.finished", text))
        run.staged = []
        session.mailbox.remove(run.id)
        if session.live == run.id and not hold:
            session.live = None
