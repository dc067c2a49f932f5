"""The checker finds what it is for: each test doctors a sound history in one place."""

from __future__ import annotations

import pytest

from runtime_core.contracts.run import RunRecord, RunResult, RunState, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind as Kind
from tests.chaos.checker import Violation, ViolationKind, check
from tests.chaos.figures import measure
from tests.chaos.history import Applied, Cancelled, Chunk, Exit, FaultKind, History, OwnerSeen, Submitted
from tests.chaos.journal import Line, What


def line(what: What, run: str, at: float, *, attempt: int = 1, pid: int = 1) -> Line:
    return Line(what=what, run=run, session="s", attempt=attempt, pid=pid, at=at)


def record(run: str, before: list[str], *, attempt: int = 1, pid: int = 1) -> RunRecord:
    return RunRecord(
        run_id=run,
        tenant="default",
        session_id="s",
        agent_id="worker",
        partition=0,
        state=RunState.FINISHED,
        status=StopReason.COMPLETED,
        attempt=attempt,
        sequence=3,
        submitted_ms=0,
        result=RunResult(
            run_id=run,
            final_output={"attempt": attempt, "pid": pid, "before": before},
            metadata={"attempt": attempt},
        ),
    )


def chunks(of: RunRecord) -> list[Chunk]:
    assert of.result is not None
    last = {"attempt": of.attempt, "result": of.result.model_dump(mode="json")}
    return [
        Chunk(kind=Kind.RUN_QUEUED, sequence=1, attempt=0),
        Chunk(kind=Kind.RUN_STARTED, sequence=2, attempt=of.attempt),
        Chunk.model_validate({"kind": Kind.RUN_FINISHED, "sequence": 3, **last}),
    ]


@pytest.fixture
def history() -> History:
    """Two runs of one session: the first was met by a SIGKILL in process 1 at 2.0, both completed in process 2."""
    records = {"a": record("a", [], attempt=2, pid=2), "b": record("b", ["a"], pid=2)}
    return History(
        partitions=1,
        submitted=[Submitted(run="a", session="s", at=0.5), Submitted(run="b", session="s", at=0.6)],
        journal=[
            line(What.START, "a", 1.0),
            line(What.EFFECT, "a", 1.5),
            line(What.START, "a", 9.0, attempt=2, pid=2),
            line(What.END, "a", 10.0, attempt=2, pid=2),
            line(What.START, "b", 10.1, pid=2),
            line(What.END, "b", 11.0, pid=2),
        ],
        faults=[Applied(kind=FaultKind.SIGKILL, at=2.0, pid=1, worker="w1")],
        exits=[Exit(worker="w1", pid=1, at=2.0, code=-9)],
        owners=[
            OwnerSeen(at=0.1, partition=0, worker="w1", fence="1"),
            OwnerSeen(at=8.5, partition=0, worker="w2", fence="2"),
        ],
        streams={run: chunks(one) for run, one in records.items()},
        rereads={run: chunks(one) for run, one in records.items()},
        records=records,
    )


def kinds(found: list[Violation]) -> set[ViolationKind]:
    return {violation.kind for violation in found}


def doctor_record(history: History, run: str, **changes: object) -> None:
    history.records[run] = history.records[run].model_copy(update=changes)


def test_a_sound_history_has_no_violation(history: History) -> None:
    assert check(history) == []


def test_a_run_without_a_record_is_lost(history: History) -> None:
    del history.records["a"]
    assert ViolationKind.LOST in kinds(check(history))


def test_a_run_that_never_finished_is_lost(history: History) -> None:
    doctor_record(history, "b", state=RunState.RUNNING, status=None, result=None)
    assert ViolationKind.LOST in kinds(check(history))


def test_an_innocent_that_was_given_up_on_ended_otherwise(history: History) -> None:
    doctor_record(history, "b", status=StopReason.DEAD_LETTER)
    assert ViolationKind.ENDED_OTHERWISE in kinds(check(history))


def test_a_second_terminal_chunk_is_a_doubled_result(history: History) -> None:
    end = history.streams["a"][-1]
    history.streams["a"] = [*history.streams["a"], end.model_copy(update={"sequence": 4})]
    history.rereads["a"] = history.streams["a"]
    assert kinds(check(history)) == {ViolationKind.DOUBLED}


def test_a_result_that_differs_from_what_the_stream_told_is_doubled(history: History) -> None:
    result = history.records["b"].result
    assert result is not None
    doctor_record(history, "b", result=result.model_copy(update={"task_id": "other"}))
    assert kinds(check(history)) == {ViolationKind.DOUBLED}


def test_two_executions_of_a_session_at_once_overlap(history: History) -> None:
    history.journal[4] = line(What.START, "b", 9.9, pid=2)
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_an_execution_without_an_end_goes_on_until_its_process_dies(history: History) -> None:
    history.exits[0] = Exit(worker="w1", pid=1, at=9.5, code=-9)
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_an_attempt_that_starts_twice_is_an_overlap(history: History) -> None:
    history.journal.append(line(What.START, "b", 12.0, pid=2))
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_what_a_process_does_before_it_notices_its_stop_is_no_overlap_but_counted(history: History) -> None:
    history.faults[0] = Applied(kind=FaultKind.SIGSTOP, at=1.8, until=10.5, pid=1, worker="w1")
    history.exits.clear()
    history.journal += [line(What.EFFECT, "a", 10.6), line(What.CUT, "a", 10.7)]
    assert check(history) == []
    assert measure(history).late_effects == 1

    history.journal.insert(-1, line(What.EFFECT, "a", 10.65))
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_a_start_long_after_a_stop_is_not_past_its_guard(history: History) -> None:
    history.faults[0] = Applied(kind=FaultKind.SIGSTOP, at=0.9, until=9.2, pid=1, worker="w1")
    history.exits.clear()
    history.journal[:2] = [line(What.START, "a", 9.3), line(What.CUT, "a", 10.3)]
    assert check(history) == []

    history.journal[0] = line(What.START, "a", 9.9)
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_a_stop_excuses_nothing_while_the_partition_stays(history: History) -> None:
    history.faults[0] = Applied(kind=FaultKind.SIGSTOP, at=1.8, until=3.0, pid=1, worker="w1")
    history.exits.clear()
    history.journal.append(line(What.END, "a", 10.7))
    assert ViolationKind.OVERLAP in kinds(check(history))


def test_an_isolated_process_may_wait_but_not_work(history: History) -> None:
    history.faults[0] = Applied(kind=FaultKind.ISOLATION, at=1.8, until=9.5, pid=1, worker="w1")
    history.exits.clear()
    history.journal.append(line(What.CUT, "a", 9.6))
    assert check(history) == []

    history.journal.insert(-1, line(What.EFFECT, "a", 9.3))
    assert kinds(check(history)) == {ViolationKind.OVERLAP}


def test_first_starts_out_of_submit_order_are_found(history: History) -> None:
    history.submitted.reverse()
    assert ViolationKind.ORDER in kinds(check(history))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda told: [told[0], *told[2:]], id="hole"),
        pytest.param(lambda told: told[:-1], id="no end"),
        pytest.param(lambda told: [told[0], told[0], *told[1:]], id="repeated"),
        pytest.param(lambda told: [], id="silent"),
    ],
)
@pytest.mark.parametrize("which", ["streams", "rereads"])
def test_a_stream_that_is_not_dense_to_its_end_has_a_gap(history: History, which: str, broken: object) -> None:
    told = getattr(history, which)
    assert callable(broken)
    told["a"] = broken(told["a"])
    assert ViolationKind.GAP in kinds(check(history))


def test_a_stream_that_tells_something_else_when_read_again_has_a_gap(history: History) -> None:
    history.rereads["b"][1] = Chunk(kind=Kind.ARTIFACT, sequence=2, attempt=1)
    assert kinds(check(history)) == {ViolationKind.GAP}


def test_a_result_of_an_attempt_that_was_over_is_a_zombie_write(history: History) -> None:
    doctor_record(history, "a", attempt=3)
    assert kinds(check(history)) == {ViolationKind.ZOMBIE}


def test_a_chunk_of_an_attempt_that_was_over_is_a_zombie_write(history: History) -> None:
    for told in (history.streams, history.rereads):
        told["a"] = [told["a"][0], told["a"][1].model_copy(update={"attempt": 3}), told["a"][2]]
    assert kinds(check(history)) == {ViolationKind.ZOMBIE}


def test_a_result_without_an_execution_that_returned_is_found(history: History) -> None:
    history.journal.pop()
    history.exits.append(Exit(worker="w2", pid=2, at=11.5, code=-9))
    assert kinds(check(history)) == {ViolationKind.UNEXECUTED}


@pytest.mark.parametrize("before", [[], ["a", "a"]])
def test_a_session_write_lost_or_doubled_is_found(history: History, before: list[str]) -> None:
    history.records["b"] = record("b", before, pid=2)
    history.streams["b"] = history.rereads["b"] = chunks(history.records["b"])
    assert kinds(check(history)) == {ViolationKind.SESSION}


def test_a_run_cancelled_in_its_queue_that_started_is_found(history: History) -> None:
    history.cancels.append(Cancelled(run="b", at=7.0, answered=7.1, outcome="cancelled"))
    assert kinds(check(history)) == {ViolationKind.CANCELLED_START}


def test_recovery_counts_from_the_last_death_of_a_process_that_held_the_partition(history: History) -> None:
    assert measure(history).recoveries == [7.0]

    history.owners[1:1] = [OwnerSeen(at=5.0, partition=0, worker="w3", fence="2")]
    history.faults.append(Applied(kind=FaultKind.SIGKILL, at=6.0, pid=3, worker="w3"))
    history.faults.append(Applied(kind=FaultKind.SIGKILL, at=8.0, pid=4, worker="w4"))
    assert measure(history).recoveries == [3.0]


def test_only_kills_that_met_an_execution_are_hits(history: History) -> None:
    history.faults.append(Applied(kind=FaultKind.SIGKILL, at=10.05, pid=2, worker="w2"))
    assert measure(history).hits == 1
    assert measure(history).repeated == 1


@pytest.mark.parametrize(("attempt", "again"), [(1, set[ViolationKind]()), (2, {ViolationKind.STEP})])
def test_a_step_that_was_taken_again_though_it_was_written_is_found(
    history: History, attempt: int, again: set[ViolationKind]
) -> None:
    queued, started, finished = chunks(history.records["a"])
    saved = Chunk(kind=Kind.CHECKPOINT_SAVED, sequence=2, attempt=1, saved=1)
    later = [one.model_copy(update={"sequence": one.sequence + 1}) for one in (started, finished)]
    history.streams["a"] = history.rereads["a"] = [queued, saved, *later]
    effect = line(What.EFFECT, "a", 9.5 if attempt == 2 else 1.5, attempt=attempt, pid=attempt)
    history.journal.append(effect.model_copy(update={"step": 0}))
    assert kinds(check(history)) == again
