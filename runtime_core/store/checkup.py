"""Reads for a checkup of the fleet, at a bounded cost: the server, sessions that are held, sessions that are full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.checkup import FullSession, HeldSession, ServerView, Troubles
from runtime_core.contracts.fleet import FleetStatus
from runtime_core.contracts.run import RunState
from runtime_core.ids import ScopedRunId, SessionKey, split_run_id, split_session_key
from runtime_core.store import keys
from runtime_core.store.replies import execute, number, readable, server_time_ms

#: Live sessions that are looked at, in all.
_LIVE = 5_000
#: Ready sessions of one partition whose mailbox is measured; only if the partition has enough runs for a full one.
_READY = 500

#: A session, its partition, and the run that makes it live.
Live = tuple[SessionKey, int, ScopedRunId]


async def read_server(redis: Redis) -> ServerView:
    """What Redis says of itself: one round trip. Raises one of RETRYABLE if it cannot serve."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.info()
    pipeline.llen(keys.INGRESS_QUEUE)
    time, info, ingress = await execute(pipeline)
    said: dict[str, Any] = readable(info, {})

    def text(name: str) -> str | None:
        return str(said[name]) if name in said else None

    def well(name: str) -> bool | None:
        return said[name] == "ok" if name in said else None

    return ServerView(
        now_ms=server_time_ms(time),
        version=text("redis_version"),
        role=text("role"),
        maxmemory_policy=text("maxmemory_policy"),
        maxmemory=number(said.get("maxmemory")),
        used_memory=number(said.get("used_memory")),
        aof_enabled=bool(said["aof_enabled"]) if "aof_enabled" in said else None,
        aof_ok=well("aof_last_write_status"),
        rdb_ok=well("rdb_last_bgsave_status"),
        ingress=readable(ingress, 0),
    )


async def read_troubles(redis: Redis, status: FleetStatus, *, session_limit: int) -> Troubles:
    """Sessions that cannot go on: three round trips over the partitions that have something to do."""
    busy = [view.partition for view in status.partitions if view.live or view.ready]
    crowded = {view.partition for view in status.partitions if view.pending >= session_limit}
    if not busy:
        return Troubles()
    pipeline = redis.pipeline(transaction=False)
    for partition in busy:
        pipeline.hgetall(keys.live(partition))
        pipeline.zrange(keys.ready(partition), 0, _READY - 1 if partition in crowded else 0)
    replies = await execute(pipeline)
    live: list[Live] = []
    waiting: list[tuple[SessionKey, int]] = []
    for index, partition in enumerate(busy):
        sessions: dict[str, str] = readable(replies[2 * index], {})
        live += [(SessionKey(session), partition, ScopedRunId(run)) for session, run in sessions.items()]
        if partition in crowded:
            names = [*sessions, *readable(replies[2 * index + 1], [])]
            waiting += [(SessionKey(name), partition) for name in dict.fromkeys(names)]
    return Troubles(
        held=await _held(redis, live[:_LIVE]),
        full=await _full(redis, waiting[:_LIVE], session_limit),
    )


async def _held(redis: Redis, live: Sequence[Live]) -> tuple[HeldSession, ...]:
    pipeline = redis.pipeline(transaction=False)
    for _, partition, run in live:
        pipeline.hmget(keys.run(partition, run), "state", "finished_ms")
    found: list[HeldSession] = []
    for (session, partition, run), reply in zip(live, await execute(pipeline) if live else [], strict=True):
        state, finished = readable(reply, (None, None))
        if state == RunState.RUNNING:
            continue
        tenant, session_id = split_session_key(session)
        found.append(
            HeldSession(
                session_id=session_id,
                tenant=tenant,
                partition=partition,
                run_id=split_run_id(run)[1],
                state=state or "",
                finished_ms=number(finished) or 0,
            )
        )
    return tuple(found)


async def _full(redis: Redis, sessions: Sequence[tuple[SessionKey, int]], limit: int) -> tuple[FullSession, ...]:
    pipeline = redis.pipeline(transaction=False)
    for session, partition in sessions:
        pipeline.llen(keys.mailbox(partition, session))
    found: list[FullSession] = []
    for (session, partition), reply in zip(sessions, await execute(pipeline) if sessions else [], strict=True):
        pending = readable(reply, 0)
        if pending >= limit:
            tenant, session_id = split_session_key(session)
            found.append(FullSession(session_id=session_id, tenant=tenant, partition=partition, pending=pending))
    return tuple(found)
