"""One sentence on where a run stands: a pure function of its story."""

from __future__ import annotations

from producer.cli.output import ending
from producer.cli.times import span
from runtime_core.contracts.run import RunRecord, RunState, StopReason
from runtime_core.contracts.run_story import RunStory
from runtime_core.partitioning import partition_name


def headline(story: RunStory) -> str:
    """For example: queued behind 3 runs of its session; the first has been running for 12.0 s on w2."""
    record = story.record
    if record is None:
        return "its record cannot be read"
    match record.state:
        case RunState.QUEUED:
            return _queued(story, record)
        case RunState.RUNNING:
            return _running(story, record)
        case RunState.FINISHED:
            return _finished(record)


def _queued(story: RunStory, record: RunRecord) -> str:
    again = f", after {record.attempt} attempts that ended early" if record.attempt else ""
    if story.ahead:
        runs = "1 run" if story.ahead == 1 else f"{story.ahead:,} runs"
        return f"queued behind {runs} of its session{again}; {_first(story)}"
    waited = f"next of its session{again}; waits for a worker since {_since(story, record.submitted_ms)}"
    return f"{waited}, {_where(story)}"


def _first(story: RunStory) -> str:
    head = story.head and story.head.record
    if head is None:
        return "the first cannot be read"
    if head.state is RunState.RUNNING and head.started_ms:
        waits = f", {_waits(head)}" if head.waiting_for else ""
        return f"the first has been running for {_since(story, head.started_ms)} on {head.worker}{waits}"
    return f"the first waits for a worker itself, {_where(story)}"


def _where(story: RunStory) -> str:
    name = partition_name(story.partition)
    if not story.owner:
        return f"but {name} has no owner: see runlane doctor"
    silent = "" if story.owner_beats else ", which is silent: another takes over soon"
    return f"{name} is at {story.owner}{silent}"


def _running(story: RunStory, record: RunRecord) -> str:
    for_long = _since(story, record.started_ms or record.submitted_ms)
    cancelled = "; it is to be cancelled" if record.cancel_requested else ""
    waits = f"; it {_waits(record)}" if record.waiting_for else ""
    sentence = f"running for {for_long} on {record.worker}, attempt {record.attempt}{cancelled}{waits}"
    if record.worker != story.owner:
        return f"{sentence}; {_where(story)}, so that attempt is lost and the next one follows"
    return sentence if story.owner_beats else f"{sentence}; that worker is silent: another takes over soon"


def _waits(record: RunRecord) -> str:
    """For what, and where to go on from there; it may be several things."""
    parts = [part.partition(":") for part in (record.waiting_for or "").split()]
    told = [
        f"a person: runlane approvals {record.run_id}" if kind == "approval" else f"its child: runlane show {which}"
        for kind, _, which in parts
    ]
    return f"waits for {' and '.join(dict.fromkeys(told))}"


def _finished(record: RunRecord) -> str:
    if record.status is StopReason.DEAD_LETTER:
        return f"given up on: see runlane dead show {record.run_id}"
    how = ending(record.result) if record.result else str(record.status)
    if not record.started_ms:
        return f"{how}\nit never started"
    waited = span(max(0, record.started_ms - record.submitted_ms) / 1000)
    took = span(max(0, (record.finished_ms or record.started_ms) - record.started_ms) / 1000)
    attempts = "" if record.attempt <= 1 else f", {record.attempt} attempts"
    before = "waited" if record.attempt <= 1 else "its last attempt began after"
    return f"{how}\n{before} {waited}, took {took} on {record.worker}{attempts}"


def _since(story: RunStory, since_ms: int) -> str:
    return span(max(0, story.now_ms - since_ms) / 1000)
