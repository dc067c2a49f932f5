"""The sentence on top of ``runlane show``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from producer.cli.headline import headline
from runtime_core.contracts.run import ErrorDetails, RunRecord, RunResult, RunState, StopReason
from runtime_core.contracts.run_story import RunRow, RunStory

NOW = 100_000


def record(state: RunState, **fields: Any) -> RunRecord:
    values: dict[str, Any] = {"run_id": "r", "tenant": "default", "session_id": "s", "agent_id": "a", "partition": 7}
    return RunRecord.model_validate(values | {"submitted_ms": NOW - 30_000, "state": state} | fields)


RUNNING = record(RunState.RUNNING, attempt=1, worker="w2", started_ms=NOW - 12_000)


def story(of: RunRecord | None, **fields: Any) -> RunStory:
    values: dict[str, Any] = {"ahead": 0, "head": None, "owner": "w2", "owner_beats": True} | fields
    return RunStory(
        now_ms=NOW,
        run_id="r",
        partition=7,
        record=of,
        request=None,
        history=(),
        frames=(),
        frame_count=0,
        children=(),
        **values,
    )


QUEUED = story(record(RunState.QUEUED))


def test_a_run_behind_others_says_what_its_session_waits_for() -> None:
    head = RunRow(run_id="h", partition=7, record=RUNNING)
    behind = replace(QUEUED, ahead=3, head=head)
    assert headline(behind) == "queued behind 3 runs of its session; the first has been running for 12.0 s on w2"
    waiting = replace(behind, ahead=1, head=replace(head, record=record(RunState.QUEUED)))
    assert headline(waiting) == (
        "queued behind 1 run of its session; the first waits for a worker itself, p0007 is at w2"
    )
    assert headline(replace(behind, head=None)).endswith("the first cannot be read")


def test_the_next_run_of_a_session_says_who_is_to_take_it() -> None:
    assert headline(QUEUED) == "next of its session; waits for a worker since 30.0 s, p0007 is at w2"
    assert headline(replace(QUEUED, owner="")).endswith("but p0007 has no owner: see runlane doctor")
    assert headline(replace(QUEUED, owner_beats=False)).endswith("at w2, which is silent: another takes over soon")


def test_a_run_that_was_interrupted_says_so() -> None:
    again = story(record(RunState.QUEUED, attempt=2))
    assert headline(again).startswith("next of its session, after 2 attempts that ended early")


def test_a_running_run_says_where_and_whether_its_worker_lives() -> None:
    assert headline(story(RUNNING)) == "running for 12.0 s on w2, attempt 1"
    assert "that worker is silent" in headline(story(RUNNING, owner_beats=False))
    assert "p0007 is at w3, so that attempt is lost" in headline(story(RUNNING, owner="w3"))
    cancelled = RUNNING.model_copy(update={"cancel_requested": True})
    assert headline(story(cancelled)).endswith("it is to be cancelled")


def test_a_run_that_waits_says_for_what() -> None:
    person = RUNNING.model_copy(update={"waiting_for": "approval:c1 approval:c2"})
    assert headline(story(person)).endswith("attempt 1; it waits for a person: runlane approvals r")
    child = RUNNING.model_copy(update={"waiting_for": "run:k"})
    behind = story(record(RunState.QUEUED), ahead=1, head=RunRow(run_id="h", partition=7, record=child))
    assert headline(behind).endswith("12.0 s on w2, waits for its child: runlane show k")


def test_a_finished_run_says_how_it_ended_and_how_long_it_took() -> None:
    result = RunResult(run_id="r", stop_reason=StopReason.FAILED, error_details=ErrorDetails(code="c", message="m"))
    ended = RUNNING.model_copy(
        update={
            "state": RunState.FINISHED,
            "status": StopReason.FAILED,
            "result": result,
            "finished_ms": NOW - 2_000,
            "attempt": 2,
        }
    )
    assert headline(story(ended)) == (
        "failed: m (c)\nits last attempt began after 18.0 s, took 10.0 s on w2, 2 attempts"
    )
    never = record(RunState.FINISHED, status=StopReason.CANCELLED, finished_ms=NOW)
    assert headline(story(never)) == "cancelled\nit never started"


def test_a_dead_letter_points_to_its_own_command() -> None:
    dead = record(RunState.FINISHED, status=StopReason.DEAD_LETTER)
    assert headline(story(dead)) == "given up on: see runlane dead show r"


def test_a_record_that_cannot_be_read_is_said_to_be() -> None:
    assert headline(story(None)) == "its record cannot be read"
