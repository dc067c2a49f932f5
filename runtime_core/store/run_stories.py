"""The whole story of one run: its record, request, attempts, log, family, and who is before it in its session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis

from runtime_core.contracts.dead_letter import Interruption
from runtime_core.contracts.frame import Frame, decode_frame
from runtime_core.contracts.run import RunRequest, RunState
from runtime_core.contracts.run_story import RunRow, RunStory
from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId, session_key, split_run_id
from runtime_core.store import keys
from runtime_core.store.reads import run_not_found
from runtime_core.store.records import RECORD_FIELDS
from runtime_core.store.replies import execute, number, readable, server_time_ms
from runtime_core.store.run_list import row_of

#: Children that are named.
_CHILDREN = 100

Parsed = TypeVar("Parsed")


async def read_story(redis: Redis, run: ScopedRunId, *, frames: int) -> RunStory:
    """All that the store keeps of a run, with the newest ``frames`` of its log: three round trips.

    What cannot be read is named in ``unreadable``. Raises RunNotFound.
    """
    partition = await _locate(redis, run)
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.hmget(keys.run(partition, run), RECORD_FIELDS)
    pipeline.hget(keys.run(partition, run), "request")
    pipeline.lrange(keys.crashes(partition, run), 0, -1)
    pipeline.xlen(keys.log(partition, run))
    pipeline.xrevrange(keys.log(partition, run), count=frames)
    pipeline.smembers(keys.children(partition, run))
    pipeline.hget(keys.lease(partition), "owner")
    time, record, request, history, count, log, children, owner = await execute(pipeline)
    now = server_time_ms(time)
    row = row_of(run, partition, record)
    if row is None:
        raise run_not_found(run)
    unreadable = [f"its record: {row.unreadable}"] if row.unreadable else []
    named = {"request": request, "history": history, "log": log, "children": children, "lease": owner}
    unreadable += [f"its {name}: {reply}" for name, reply in named.items() if isinstance(reply, Exception)]
    worker = (readable(owner, None) or "").rpartition("#")[0]
    beats, (ahead, head) = await _beats(redis, worker, now), await _ahead(redis, run, row)
    entries: list[Any] = list(reversed(readable(log, [])))
    return RunStory(
        now_ms=now,
        run_id=row.run_id,
        partition=partition,
        record=row.record,
        request=_request(readable(request, None)),
        history=tuple(_parse(readable(history, []), Interruption.model_validate_json, "history", unreadable)),
        frames=tuple(_parse(entries, _frame, "log", unreadable)),
        frame_count=readable(count, 0),
        ahead=ahead,
        head=head,
        children=tuple(sorted(split_run_id(child)[1] for child in readable(children, ())))[:_CHILDREN],
        owner=worker,
        owner_beats=beats,
        unreadable=tuple(unreadable),
    )


async def _locate(redis: Redis, run: ScopedRunId) -> int:
    pipeline = redis.pipeline(transaction=False)
    pipeline.get(keys.run_pointer(run))
    (pointer,) = await execute(pipeline)
    if pointer is None:
        raise run_not_found(run)
    partition = None if isinstance(pointer, Exception) else number(pointer.partition(":")[0])
    if partition is None:
        raise RunlaneError(
            f"where run {run!r} is cannot be read: {pointer}",
            hint=f"somebody else wrote {keys.run_pointer(run)}: keep other programs out of this database",
            run_id=split_run_id(run)[1],
        )
    return partition


async def _beats(redis: Redis, worker: str, now: int) -> bool:
    if not worker:
        return False
    pipeline = redis.pipeline(transaction=False)
    pipeline.zscore(keys.WORKERS, worker)
    (deadline,) = await execute(pipeline)
    return (readable(deadline, None) or 0) > now


async def _ahead(redis: Redis, run: ScopedRunId, row: RunRow) -> tuple[int, RunRow | None]:
    """How many runs of its session are before a queued run, and the first of them."""
    record = row.record
    if record is None or record.state is not RunState.QUEUED:
        return 0, None
    mailbox = keys.mailbox(row.partition, session_key(record.tenant, record.session_id))
    pipeline = redis.pipeline(transaction=False)
    pipeline.execute_command("LPOS", mailbox, run)
    pipeline.lindex(mailbox, 0)
    position, head = (readable(reply, None) for reply in await execute(pipeline))
    if not position or head is None:
        return 0, None
    pipeline = redis.pipeline(transaction=False)
    pipeline.hmget(keys.run(row.partition, ScopedRunId(head)), RECORD_FIELDS)
    (reply,) = await execute(pipeline)
    return int(position), row_of(ScopedRunId(head), row.partition, reply)


def _parse(entries: Iterable[Any], parse: Callable[[Any], Parsed], what: str, unreadable: list[str]) -> list[Parsed]:
    """Those that can be read; that there were others is noted once."""
    found: list[Parsed] = []
    broken = 0
    for entry in entries:
        try:
            found.append(parse(entry))
        except (ValueError, KeyError, TypeError):
            broken += 1
    if broken:
        unreadable.append(f"its {what}: {broken} entries")
    return found


def _frame(entry: tuple[str, dict[str, str]]) -> Frame:
    return decode_frame(entry[1]["f"])


def _request(text: str | None) -> RunRequest | None:
    try:
        return RunRequest.model_validate_json(text or "")
    except ValidationError:
        return None
