"""show: the whole story of one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.calls import complete, open_client
from producer.cli.options import DEFAULT_EVERY, DEFAULT_TENANT, DEFAULT_URL, Every, Json, RedisUrl, RunId, Tenant, Watch
from producer.cli.times import moment, span

if TYPE_CHECKING:
    from producer.cli.picture import Grid, Picture
    from runtime_core.contracts.run import RunRecord
    from runtime_core.contracts.run_story import RunStory


def show(
    run_id: RunId,
    events: Annotated[int, typer.Option("--events", min=1, max=10_000, help="The newest so many of its events.")] = 50,
    with_input: Annotated[bool, typer.Option("--input", help="The text that was asked, too.")] = False,
    again: Watch = False,
    every: Every = DEFAULT_EVERY,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Show one run: where it stands, its times, attempts, interruptions, events, family, and result.

    A record is kept for 24 hours after its run finished.

    Example:  runlane show 4f0c… --events 200
    """

    async def print_story() -> None:
        from producer.cli.picture import look

        async with open_client(redis_url, tenant) as client:

            async def take() -> Picture:
                return picture_of(await client.story(run_id, frames=events), with_input=with_input)

            await look(take, again=again, every=every, as_json=as_json)

    complete(print_story())


def picture_of(story: RunStory, *, with_input: bool) -> Picture:
    """The input's text is shown ``with_input`` only."""
    from producer.cli.headline import headline
    from producer.cli.picture import Picture, facts

    sentence = headline(story)
    record: dict[str, Any] = {
        "run_id": story.run_id,
        "summary": sentence,
        "now_ms": story.now_ms,
        "partition": story.partition,
        "owner": story.owner,
        "owner_beats": story.owner_beats,
        "record": story.record.model_dump(mode="json") if story.record else None,
        "request": _request(story, with_input=with_input),
        "attempts": [interruption.model_dump(mode="json") for interruption in story.history],
        "ahead": story.ahead,
        "children": list(story.children),
        "event_count": story.frame_count,
        "events": [asdict(frame) for frame in story.frames],
        "unreadable": list(story.unreadable),
    }
    return Picture(
        parts=[
            sentence,
            "",
            facts(_facts(story, with_input=with_input)),
            *([_attempts(story)] if story.record and story.record.attempt else []),
            _timeline(story),
            *_result(story.record),
            *(f"cannot be read: {problem}" for problem in story.unreadable),
        ],
        record=record,
    )


def _request(story: RunStory, *, with_input: bool) -> dict[str, Any] | None:
    if story.request is None:
        return None
    shown = story.request.model_dump(mode="json", exclude={"input_text"})
    shown["input_length"] = len(story.request.input_text)
    return shown | ({"input_text": story.request.input_text} if with_input else {})


def _facts(story: RunStory, *, with_input: bool) -> dict[str, str]:
    from runtime_core.partitioning import partition_name

    record, request = story.record, story.request
    values = {"run": story.run_id, "partition": f"{partition_name(story.partition)}, {story.owner or 'no owner'}"}
    if record is not None:
        values |= {
            "session": record.session_id,
            "agent": record.agent_id,
            "state": (record.status or record.state).value,
            "submitted": moment(record.submitted_ms),
            "started": moment(record.started_ms),
            "finished": moment(record.finished_ms),
        }
        if record.deadline_ms:
            values["starts by"] = moment(record.deadline_ms)
        if record.config_version is not None:
            values["config"] = f"version {record.config_version}"
        early = {
            "crashes": record.crashes,
            "interruptions": record.interruptions,
            "handovers": record.handovers,
            "spared": record.spared,
        }
        if any(early.values()):
            values["ended early"] = ", ".join(f"{count} {name}" for name, count in early.items() if count)
    if request is None:
        values["input"] = "(the request cannot be read)"
    else:
        length = f"{len(request.input_text):,} characters"
        values["input"] = request.input_text if with_input else f"{length}; --input shows them"
        if request.parent_run_id:
            values["parent"] = request.parent_run_id
    if story.children:
        values["children"] = ", ".join(story.children)
    return values


def _attempts(story: RunStory) -> Grid:
    from producer.cli.picture import Grid
    from runtime_core.contracts.run import RunState

    record = story.record
    rows = [
        (
            str(one.attempt),
            one.worker,
            moment(one.started_ms),
            span(max(0, one.ended_ms - one.started_ms) / 1000),
            f"{one.count}, charged: {one.reason}" if one.probation else f"{one.count}: {one.reason}",
        )
        for one in story.history
    ]
    # The newest attempt is in the history only if it ended early.
    if record and record.started_ms and not any(one.attempt == record.attempt for one in story.history):
        ended = record.finished_ms or story.now_ms
        how = "runs" if record.state is RunState.RUNNING else (record.status or record.state).value
        took = span(max(0, ended - record.started_ms) / 1000)
        rows.append((str(record.attempt), record.worker or "–", moment(record.started_ms), took, how))
    return Grid(headings=("attempt", "worker", "started", "took", "how it ended"), rows=rows, empty="no attempts")


def _timeline(story: RunStory) -> Grid:
    from producer.cli.output import short
    from producer.cli.picture import Grid

    start = story.record.submitted_ms if story.record else 0
    left_out = story.frame_count - len(story.frames)
    rows = [
        (
            f"{(frame.timestamp_ms - start) / 1000:+.3f} s",
            str(frame.sequence),
            frame.event,
            str(frame.attempt),
            short(frame.payload, 80),
        )
        for frame in story.frames
    ]
    if left_out > 0:
        rows.insert(0, ("…", "", f"{left_out:,} earlier events: --events {story.frame_count}", "", ""))
    return Grid(headings=("time", "sequence", "event", "attempt", "payload"), rows=rows, empty="no events")


def _result(record: RunRecord | None) -> list[str]:
    from producer.cli.output import shown

    result = record and record.result
    if not result or result.final_output is None:
        return []
    return [f"result: {shown(result.final_output)}"]
