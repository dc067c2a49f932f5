"""Lists of sessions, and one session with what it keeps.

Sessions with unfinished runs are found by what partitions hold of them. Others are found by walking the keys of the
store: at most 100,000 of them, for nothing lists idle sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.run_story import SessionList, SessionStory, SessionView
from runtime_core.errors import SessionNotFound
from runtime_core.ids import SessionKey, session_key, split_run_id, split_session_key
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.replies import execute, number, readable
from runtime_core.store.run_list import RunLister

#: Keys walked over in one step, and steps.
_STEP, _STEPS = 1_000, 100
#: Unfinished runs of one session that are named.
_RUNS = 100
#: Sessions in one round trip.
_BATCH = 500


class SessionLister:
    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._runs = RunLister(redis, partitions)

    async def list(self, tenant: str, *, limit: int) -> SessionList:
        """The tenant's sessions: those with unfinished runs first, then by their last run, newest first."""
        busy, complete = await self._runs.busy_sessions(tenant)
        kept, all_keys = await self._kept(tenant)
        sessions = list(dict.fromkeys([*(session for session, _ in busy), *kept]))
        views: list[SessionView] = []
        for at in range(0, len(sessions), _BATCH):
            views += await self._views(sessions[at : at + _BATCH])
        views.sort(key=lambda view: (view.pending > 0, view.last_run_ms or 0), reverse=True)
        return SessionList(sessions=tuple(views[:limit]), complete=complete and all_keys)

    async def show(self, tenant: str, session_id: str) -> SessionStory:
        """Raises SessionNotFound if the store knows nothing of it."""
        session = session_key(tenant, session_id)
        partition = partition_of(session, self._partitions)
        (view,) = await self._views([session])

        def part(name: str) -> str:
            return keys.session_part(partition, session, name)

        pipeline = self._redis.pipeline(transaction=False)
        pipeline.lrange(keys.mailbox(partition, session), 0, _RUNS - 1)
        pipeline.hkeys(part("state"))
        pipeline.llen(part("transcript"))
        pipeline.llen(part("artifacts"))
        for name in ("meta", "state", "transcript", "artifacts"):
            pipeline.ttl(part(name))
        runs, state, messages, artifacts, *ttls = await execute(pipeline)
        alive = [ttl for ttl in ttls if ttl > 0]
        if not (alive or view.pending or view.live_run or view.unreadable):
            raise SessionNotFound(
                f"there is no session {session_id!r}",
                hint="check the id and the tenant; a session is kept for 30 days after its last run",
                session_id=session_id,
            )
        named = {"runs": runs, "state": state, "transcript": messages, "artifacts": artifacts}
        return SessionStory(
            view=view,
            run_ids=tuple(split_run_id(run)[1] for run in readable(runs, ())),
            state_fields=tuple(sorted(readable(state, ()))),
            messages=readable(messages, 0),
            artifacts=readable(artifacts, 0),
            expires_in_s=max(alive, default=None),
            unreadable=tuple(f"its {name}: {reply}" for name, reply in named.items() if isinstance(reply, Exception)),
        )

    async def _kept(self, tenant: str) -> tuple[Sequence[SessionKey], bool]:
        """Sessions that keep something, and whether all keys were walked over."""
        found: dict[SessionKey, None] = {}
        cursor: Any = 0
        for _ in range(_STEPS):
            step: Any = self._redis.scan(cursor, match=keys.session_meta_pattern(tenant), count=_STEP)
            batch: list[str]
            cursor, batch = await step
            for key in batch:
                found[SessionKey(key.partition(":session:")[2].removesuffix(":meta"))] = None
            if int(cursor) == 0:
                return list(found), True
        return list(found), False

    async def _views(self, sessions: Sequence[SessionKey]) -> Sequence[SessionView]:
        pipeline = self._redis.pipeline(transaction=False)
        places = [(session, partition_of(session, self._partitions)) for session in sessions]
        for session, partition in places:
            pipeline.hmget(keys.session_part(partition, session, "meta"), "config_version", "last_run_ms")
            pipeline.llen(keys.mailbox(partition, session))
            pipeline.hget(keys.live(partition), session)
            pipeline.hget(keys.lease(partition), "owner")
        replies = await execute(pipeline) if places else []
        return [
            _view(session, partition, replies[4 * index : 4 * index + 4])
            for index, (session, partition) in enumerate(places)
        ]


def _view(session: SessionKey, partition: int, replies: Sequence[Any]) -> SessionView:
    meta, pending, live, owner = replies
    config_version, last_run = readable(meta, (None, None))
    live_run = readable(live, None)
    return SessionView(
        session_id=split_session_key(session)[1],
        partition=partition,
        worker=(readable(owner, None) or "").rpartition("#")[0],
        pending=readable(pending, 0),
        live_run=split_run_id(live_run)[1] if live_run else None,
        config_version=number(config_version),
        last_run_ms=number(last_run),
        unreadable="; ".join(str(reply) for reply in replies if isinstance(reply, Exception)),
    )
