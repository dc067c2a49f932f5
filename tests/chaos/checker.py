"""The checker: from a history to violations of what Runlane promises (DESIGN §4). Pure; it shares no code with the
store or the workers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from runtime_core.contracts.run import RunState, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind
from tests.chaos.executions import Execution, executions
from tests.chaos.history import Applied, Chunk, FaultKind, History
from tests.chaos.journal import What

#: Seconds by which a look at the leases may be late.
LOOK_S = 0.5
#: Seconds in which a process that goes on after a stop does what was past its guard.
PAST_GUARD_S = 0.25


class ViolationKind(StrEnum):
    LOST = "lost"
    #: Accepted, finished, and not as it had to.
    ENDED_OTHERWISE = "ended otherwise"
    DOUBLED = "doubled results"
    OVERLAP = "overlaps"
    ORDER = "order violations"
    GAP = "stream gaps"
    ZOMBIE = "zombie record writes"
    #: Completed by an attempt that never returned.
    UNEXECUTED = "results of nothing"
    #: A session's transcript does not hold each completed run exactly once.
    SESSION = "session writes"
    #: A run that was cancelled while queued started all the same.
    CANCELLED_START = "cancelled, yet started"
    #: A durable run called a tool again though that step was written.
    STEP = "steps taken again"


@dataclass(frozen=True, kw_only=True)
class Violation:
    kind: ViolationKind
    run: str
    text: str


def check(history: History) -> list[Violation]:
    """Every violation that the history shows."""
    checks: list[Callable[[History], Iterator[Violation]]] = [
        _ends,
        _results,
        _overlaps,
        _order,
        _streams,
        _zombies,
        _sessions,
        _cancelled_starts,
        _steps,
    ]
    return [violation for one in checks for violation in one(history)]


def _ends(history: History) -> Iterator[Violation]:
    for submitted in history.submitted:
        record = history.records.get(submitted.run)
        if record is None:
            yield Violation(kind=ViolationKind.LOST, run=submitted.run, text="it has no record")
        elif record.state is not RunState.FINISHED:
            yield Violation(kind=ViolationKind.LOST, run=submitted.run, text=f"it is {record.state}, not finished")
        elif record.status is not submitted.ends_as:
            yield Violation(
                kind=ViolationKind.ENDED_OTHERWISE,
                run=submitted.run,
                text=f"it ended as {record.status}, not as {submitted.ends_as}",
            )


def _results(history: History) -> Iterator[Violation]:
    """One result, the same for everybody; of an attempt that returned."""
    returned = {
        (execution.run, execution.attempt, execution.pid)
        for execution in executions(history)
        if execution.ended_by is What.END
    }
    for run, record in history.records.items():
        result = record.result.model_dump(mode="json") if record.result else None
        for name, chunks in _both(history, run):
            ends = [chunk for chunk in chunks if chunk.kind is RunStreamChunkKind.RUN_FINISHED]
            if len(ends) > 1:
                yield Violation(kind=ViolationKind.DOUBLED, run=run, text=f"{name} has {len(ends)} terminal chunks")
            if any(chunk.result != result for chunk in ends):
                yield Violation(
                    kind=ViolationKind.DOUBLED, run=run, text=f"{name} tells another result than the record"
                )
        if record.status is StopReason.COMPLETED:
            output = _output(history, run)
            if (run, output.get("attempt"), output.get("pid")) not in returned:
                yield Violation(
                    kind=ViolationKind.UNEXECUTED, run=run, text=f"no attempt that returned can have made {output}"
                )


def _overlaps(history: History) -> Iterator[Violation]:
    """No two executions of a session at once. What a stopped process does past its guard is counted elsewhere."""
    by_session: defaultdict[str, list[Execution]] = defaultdict(list)
    twice = Counter((execution.run, execution.attempt) for execution in executions(history))
    for (run, attempt), times in twice.items():
        if times > 1:
            yield Violation(kind=ViolationKind.OVERLAP, run=run, text=f"attempt {attempt} started {times} times")
    for execution in executions(history):
        if not started_past_guard(history, execution):
            by_session[execution.session].append(execution)
    for series in by_session.values():
        for index, earlier in enumerate(series):
            for later in series[index + 1 :]:
                end = working_until(history, earlier, later)
                if end > later.start:
                    yield Violation(
                        kind=ViolationKind.OVERLAP,
                        run=earlier.run,
                        text=f"attempt {earlier.attempt} in process {earlier.pid} went on until {end:.3f}, after "
                        f"run {later.run} attempt {later.attempt} had started in {later.pid} at {later.start:.3f}",
                    )


def working_until(history: History, earlier: Execution, later: Execution) -> float:
    """Until when ``earlier`` executed, as far as ``later`` is concerned.

    A process that was isolated waits at its guards: being cut short at last is no work. One that was stopped while its
    partition went to another is over at its stop; one effect of an attempt may have been past its guard.
    """
    end = earlier.end
    if end <= later.start:
        return end
    for fault in history.faults:
        if fault.pid != earlier.pid or fault.until is None or not earlier.start <= fault.at <= later.start:
            continue
        if fault.kind is FaultKind.ISOLATION and earlier.ended_by is What.CUT:
            end = min(end, earlier.last_sign)
        if fault.kind is FaultKind.SIGSTOP and lost_while_stopped(history, earlier, fault):
            late = [at for at in earlier.effects if at > fault.at]
            end = min(end, max([fault.at, *late[1:]]))
    return end


def started_past_guard(history: History, execution: Execution) -> bool:
    """Whether its process was stopped right before it, went on when the partition was another's, and did no more."""
    return len(execution.effects) <= 1 and any(
        fault.kind is FaultKind.SIGSTOP
        and fault.pid == execution.pid
        and fault.at <= execution.start <= (fault.until or fault.at) + PAST_GUARD_S
        and lost_while_stopped(history, execution, fault)
        for fault in history.faults
    )


def lost_while_stopped(history: History, execution: Execution, stop: Applied) -> bool:
    """Whether the partition of a stopped process' execution changed hands before the process went on."""
    partition = _partition(history, execution.run)
    return any(
        seen.partition == partition and stop.at <= seen.at <= (stop.until or stop.at) + LOOK_S
        for seen in history.owners
    )


def _order(history: History) -> Iterator[Violation]:
    first: dict[str, float] = {}
    for execution in executions(history):
        first.setdefault(execution.run, execution.start)
    by_session: defaultdict[str, list[str]] = defaultdict(list)
    for submitted in history.submitted:
        if submitted.run in first:
            by_session[submitted.session].append(submitted.run)
    for runs in by_session.values():
        for earlier, later in pairwise(runs):
            if first[later] < first[earlier]:
                yield Violation(
                    kind=ViolationKind.ORDER, run=later, text=f"it started before {earlier}, submitted before it"
                )


def _streams(history: History) -> Iterator[Violation]:
    for submitted in history.submitted:
        run = submitted.run
        for name, chunks in _both(history, run):
            for problem in _stream_problems(chunks):
                yield Violation(kind=ViolationKind.GAP, run=run, text=f"{name} {problem}")
        if run in history.streams and history.streams[run] != history.rereads.get(run):
            yield Violation(kind=ViolationKind.GAP, run=run, text="read again, the stream is another")


def _stream_problems(chunks: list[Chunk]) -> Iterator[str]:
    sequences = [chunk.sequence for chunk in chunks]
    if sequences != list(range(1, len(chunks) + 1)):
        yield f"is not dense: {sequences}"
    if not chunks or chunks[-1].kind is not RunStreamChunkKind.RUN_FINISHED:
        yield "has no terminal chunk at its end"
    if any(chunk.kind is RunStreamChunkKind.STREAM_GAP for chunk in chunks):
        yield "has a stream.gap"


def _zombies(history: History) -> Iterator[Violation]:
    for run, record in history.records.items():
        if record.result is not None and record.status is StopReason.COMPLETED:
            written_by = {record.result.metadata.get("attempt"), _output(history, run).get("attempt")}
            if written_by != {record.attempt}:
                yield Violation(
                    kind=ViolationKind.ZOMBIE,
                    run=run,
                    text=f"its result is of attempt {written_by}, its last attempt was {record.attempt}",
                )
        for name, chunks in _both(history, run):
            attempts = [chunk.attempt for chunk in chunks]
            if attempts != sorted(attempts):
                yield Violation(
                    kind=ViolationKind.ZOMBIE,
                    run=run,
                    text=f"{name} has chunks of an attempt that was over: {attempts}",
                )


def _sessions(history: History) -> Iterator[Violation]:
    """Each run found the exchanges of the completed runs before it, each once and in order."""
    completed: defaultdict[str, list[str]] = defaultdict(list)
    for submitted in history.submitted:
        record = history.records.get(submitted.run)
        if record is None or record.status is not StopReason.COMPLETED:
            continue
        before = _output(history, submitted.run).get("before")
        if before != completed[submitted.session]:
            yield Violation(
                kind=ViolationKind.SESSION,
                run=submitted.run,
                text=f"its session held {before}, not {completed[submitted.session]}",
            )
        completed[submitted.session].append(submitted.run)


def _cancelled_starts(history: History) -> Iterator[Violation]:
    started = {line.run for line in history.journal if line.what is What.START}
    for cancel in history.cancels:
        if cancel.outcome == "cancelled" and cancel.run in started:
            record = history.records.get(cancel.run)
            if record is None or not any(
                line.run == cancel.run and line.what is What.START and line.at < cancel.at for line in history.journal
            ):
                yield Violation(
                    kind=ViolationKind.CANCELLED_START,
                    run=cancel.run,
                    text="it was cancelled in its queue, and started",
                )


def _steps(history: History) -> Iterator[Violation]:
    written = {
        (run, chunk.saved - 1): chunk.attempt
        for run, chunks in history.rereads.items()
        for chunk in chunks
        if chunk.saved is not None
    }
    for line in history.journal:
        if line.step is not None and written.get((line.run, line.step), line.attempt) < line.attempt:
            yield Violation(
                kind=ViolationKind.STEP,
                run=line.run,
                text=f"attempt {line.attempt} took step {line.step}, attempt {written[line.run, line.step]} wrote it",
            )


def _both(history: History, run: str) -> Iterator[tuple[str, list[Chunk]]]:
    if run in history.streams:
        yield "its stream", history.streams[run]
    if run in history.rereads:
        yield "its stream read again", history.rereads[run]


def _output(history: History, run: str) -> dict[str, Any]:
    record = history.records[run]
    output = record.result.final_output if record.result else None
    return output if isinstance(output, dict) else {}


def _partition(history: History, run: str) -> int | None:
    return next((one.partition(history.partitions) for one in history.submitted if one.run == run), None)
