"""Lists of runs: unfinished ones from the sessions that have some, finished ones from what each partition remembers.

The cost is bounded. At most 1,000 sessions of a partition and 5,000 unfinished runs in all are looked at (for one
session: all of its runs); a partition remembers the ends of its last 1,000 runs or so, for as long as records live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from runtime_core.contracts.run import RunState
from runtime_core.contracts.run_story import RunFilter, RunList, RunRow
from runtime_core.ids import ScopedRunId, SessionKey, session_key, split_run_id
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.records import RECORD_FIELDS, parse_record
from runtime_core.store.replies import execute, number, readable, server_time_ms

#: Sessions of one partition whose runs are looked at.
_SESSIONS = 1_000
#: Unfinished runs that are looked at.
_UNFINISHED = 5_000
#: Records in one round trip.
_BATCH = 500

#: A run and its partition.
Place = tuple[ScopedRunId, int]


class RunLister:
    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions

    async def list(self, tenant: str, which: RunFilter, *, limit: int) -> RunList:
        """The tenant's newest runs that pass ``which``. A record that cannot be read has a row that says why."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        (time,) = await execute(pipeline)
        rows: list[RunRow] = []
        complete = True
        if which.state is not RunState.FINISHED and which.status is None:
            places, complete = await self.unfinished(tenant, which.session_id)
            found = await self.rows(await self._with_children(places))
            rows += [row for row in found if _passes(row, which)]
        if which.state in (None, RunState.FINISHED):
            seen = {row.run_id for row in rows}
            places = await self._finished(tenant, which, limit)
            rows += [row for row in await self.rows(places) if row.run_id not in seen and _passes(row, which)]
        rows.sort(key=lambda row: row.at_ms, reverse=True)
        return RunList(rows=tuple(rows[:limit]), now_ms=server_time_ms(time), complete=complete)

    async def unfinished(self, tenant: str, session_id: str | None = None) -> tuple[Sequence[Place], bool]:
        """Runs that have not finished, and whether these are all."""
        if session_id is not None:
            session = session_key(tenant, session_id)
            return await self._mailboxes([(session, partition_of(session, self._partitions))])
        sessions, complete = await self.busy_sessions(tenant)
        places, all_runs = await self._mailboxes(sessions)
        return places, complete and all_runs

    async def busy_sessions(self, tenant: str) -> tuple[Sequence[tuple[SessionKey, int]], bool]:
        """Sessions with unfinished runs, each with its partition, and whether these are all."""
        pipeline = self._redis.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipeline.hkeys(keys.live(partition))
            pipeline.zrange(keys.ready(partition), 0, _SESSIONS)
        replies = await execute(pipeline)
        found: list[tuple[SessionKey, int]] = []
        complete = True
        for partition in range(self._partitions):
            live, ready = (readable(reply, []) for reply in replies[2 * partition : 2 * partition + 2])
            complete = complete and len(ready) <= _SESSIONS
            sessions = dict.fromkeys([*live, *ready[:_SESSIONS]])
            found += [(SessionKey(name), partition) for name in sessions if name.startswith(f"{tenant}/")]
        return found, complete

    async def rows(self, places: Iterable[Place]) -> Sequence[RunRow]:
        """A row for each run that has a record."""
        found: list[RunRow] = []
        remaining = iter(places)
        while batch := list(islice(remaining, _BATCH)):
            pipeline = self._redis.pipeline(transaction=False)
            for run, partition in batch:
                pipeline.hmget(keys.run(partition, run), RECORD_FIELDS)
            for place, reply in zip(batch, await execute(pipeline), strict=True):
                row = row_of(*place, reply)
                if row is not None:
                    found.append(row)
        return found

    async def _mailboxes(self, sessions: Sequence[tuple[SessionKey, int]]) -> tuple[Sequence[Place], bool]:
        pipeline = self._redis.pipeline(transaction=False)
        for session, partition in sessions:
            pipeline.lrange(keys.mailbox(partition, session), 0, _UNFINISHED // max(1, len(sessions)) + 10)
            pipeline.llen(keys.mailbox(partition, session))
        replies = await execute(pipeline) if sessions else []
        places: list[Place] = []
        total = 0
        for index, (_, partition) in enumerate(sessions):
            runs, length = replies[2 * index], replies[2 * index + 1]
            places += [(ScopedRunId(run), partition) for run in readable(runs, [])]
            total += readable(length, 0)
        return places[:_UNFINISHED], total <= min(len(places), _UNFINISHED)

    async def _with_children(self, places: Sequence[Place]) -> Sequence[Place]:
        """``places``, and the runs that execute within one of them, which stand in no mailbox."""
        found = dict.fromkeys(places)
        ask = list(places)
        while ask and len(found) < _UNFINISHED:
            pipeline = self._redis.pipeline(transaction=False)
            for run, partition in ask:
                pipeline.smembers(keys.children(partition, run))
            replies = zip(ask, await execute(pipeline), strict=True)
            children = [(ScopedRunId(run), place[1]) for place, reply in replies for run in sorted(readable(reply, []))]
            ask = [child for child in dict.fromkeys(children) if child not in found]
            found |= dict.fromkeys(ask)
        return list(found)

    async def _finished(self, tenant: str, which: RunFilter, limit: int) -> Sequence[Place]:
        """The newest ``limit`` runs that ended. One whose record has expired since has no row."""
        if which.session_id is not None:
            partitions = [partition_of(session_key(tenant, which.session_id), self._partitions)]
        else:
            partitions = list(range(self._partitions))
        found: list[tuple[int, Place]] = []
        newest_id = dict.fromkeys(partitions, "+")
        page = max(100, limit)
        while newest_id:  # pages, newest first, until each partition has given enough or has no more
            pipeline = self._redis.pipeline(transaction=False)
            for partition, newest in newest_id.items():
                pipeline.xrevrange(keys.recent(partition), max=newest, min=which.since_ms or "-", count=page)
            replies = await execute(pipeline)
            for partition, reply in zip(list(newest_id), replies, strict=True):
                entries: list[tuple[str, dict[str, str]]] = readable(reply, [])
                found += [
                    (number(fields.get("finished_ms")) or 0, (ScopedRunId(fields["run"]), partition))
                    for _, fields in entries
                    if _ended(fields, tenant, which)
                ]
                enough = sum(place[1] == partition for _, place in found) >= limit
                if enough or len(entries) < page:
                    del newest_id[partition]
                else:
                    newest_id[partition] = f"({entries[-1][0]}"
        found.sort(key=lambda entry: entry[0], reverse=True)
        return list(dict.fromkeys(place for _, place in found))[:limit]


def row_of(run: ScopedRunId, partition: int, reply: Any) -> RunRow | None:
    """What HMGET answered as a row, None if there is no record."""
    run_id = split_run_id(run)[1]
    if isinstance(reply, Exception):
        return RunRow(run_id=run_id, partition=partition, record=None, unreadable=str(reply))
    try:
        record = parse_record(run, partition, reply)
    except ValidationError as error:
        problem = f"its result cannot be read: {error.errors()[0]['msg']}"
        return RunRow(run_id=run_id, partition=partition, record=None, unreadable=problem)
    except ValueError as error:
        return RunRow(run_id=run_id, partition=partition, record=None, unreadable=str(error))
    return None if record is None else RunRow(run_id=run_id, partition=partition, record=record)


def _ended(fields: dict[str, str], tenant: str, which: RunFilter) -> bool:
    """Does what the partition remembers of a run's end pass? Its record is read only then."""
    run, session, agent = fields.get("run", ""), fields.get("session", ""), fields.get("agent", "")
    return (
        bool(run)
        and split_run_id(run)[0] == tenant
        and (which.session_id is None or session == session_key(tenant, which.session_id))
        and (which.agent_id is None or agent == which.agent_id)
        and (which.status is None or fields.get("status") == which.status)
    )


def _passes(row: RunRow, which: RunFilter) -> bool:
    record = row.record
    if record is None:
        return True  # it says that it cannot be read
    return (
        (which.state is None or record.state is which.state)
        and (which.status is None or record.status is which.status)
        and (which.agent_id is None or record.agent_id == which.agent_id)
        and (which.session_id is None or record.session_id == which.session_id)
        and (which.since_ms is None or row.at_ms >= which.since_ms)
    )
