"""The fleet as Redis shows it: workers, partitions, queues, who waits. Reads only, and needs no worker to answer.

Four round trips, O(P + workers): it never walks the key space. The heads of a partition are the three whose doorbell is
due first. A doorbell that is lost puts its head back by 16 s at the most (sweep.lua), so among heads that wait for
about as long as each other the oldest may be named wrongly by that much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.fleet import FleetStatus, HeadView, PartitionState, PartitionView, WorkerView
from runtime_core.ids import ScopedRunId, SessionKey, split_run_id, split_session_key
from runtime_core.partitioning import MAX_PARTITIONS
from runtime_core.store import keys
from runtime_core.store.replies import execute, number, readable, server_time_ms

#: Heads looked at in each partition.
_HEADS = 3
_COMMANDS_PER_PARTITION = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    partition: int
    session: SessionKey
    due_ms: int


async def read_status(redis: Redis) -> FleetStatus:
    """What Redis says of the fleet now. A key that cannot be read is named in its row, or in ``unreadable``.

    Raises one of RETRYABLE if Redis cannot serve.
    """
    unreadable: list[str] = []
    partition_count, protocol = await _meta(redis, unreadable)
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.info("server")
    pipeline.get(keys.CONFIG)
    pipeline.zrange(keys.WORKERS, 0, -1, withscores=True)
    pipeline.zrange(keys.MEMBERS, 0, -1, withscores=True)
    pipeline.llen(keys.INGRESS_QUEUE)
    pipeline.llen(keys.BAD_INGRESS)
    for partition in range(partition_count):
        pipeline.hgetall(keys.lease(partition))
        pipeline.hgetall(keys.stats(partition))
        pipeline.llen(keys.queue(partition))
        pipeline.hlen(keys.live(partition))
        pipeline.zcard(keys.ready(partition))
        pipeline.zrange(keys.ready(partition), 0, _HEADS - 1, withscores=True)
        pipeline.xlen(keys.dead(partition))
        pipeline.xrevrange(keys.dead(partition), count=1)
    time, info, config, workers, members, ingress, bad, *rest = await execute(pipeline)
    for key, reply in (
        (keys.CONFIG, config),
        (keys.WORKERS, workers),
        (keys.MEMBERS, members),
        (keys.INGRESS_QUEUE, ingress),
        (keys.BAD_INGRESS, bad),
    ):
        if isinstance(reply, Exception):
            unreadable.append(f"{key}: {reply}")
    now = server_time_ms(time)
    groups = [rest[at : at + _COMMANDS_PER_PARTITION] for at in range(0, len(rest), _COMMANDS_PER_PARTITION)]
    heads = await _heads(redis, _ready(groups))
    views = [_partition(index, group, now) for index, group in enumerate(groups)]
    return FleetStatus(
        now_ms=now,
        redis_version=str(readable(info, {}).get("redis_version", "unknown")),
        protocol=protocol,
        partition_count=partition_count,
        config_version=number(readable(config, None)) or 0,
        workers=await _workers(redis, dict(readable(workers, [])), dict(readable(members, [])), now),
        partitions=tuple(
            replace(view, heads=tuple(sorted(heads.get(view.partition, ()), key=lambda head: head.since_ms)))
            for view in views
        ),
        ingress=readable(ingress, 0),
        bad_ingress=readable(bad, 0),
        unreadable=tuple(unreadable),
    )


async def _meta(redis: Redis, unreadable: list[str]) -> tuple[int, int | None]:
    """(P, protocol version); (0, None) for a store that nobody has used."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.hmget(keys.META, "partitions", "version")
    (reply,) = await execute(pipeline)
    if isinstance(reply, Exception):
        unreadable.append(f"{keys.META}: {reply}")
        return 0, None
    partitions, version = reply
    count = number(partitions) or 0
    if partitions is not None and not 1 <= count <= MAX_PARTITIONS:
        unreadable.append(f"{keys.META}: its partitions are {partitions!r}, not 1 to {MAX_PARTITIONS}")
        count = 0
    return count, number(version)


def _ready(groups: Sequence[Sequence[Any]]) -> Iterable[_Ready]:
    for partition, group in enumerate(groups):
        for session, due in readable(group[5], []):
            yield _Ready(partition=partition, session=SessionKey(session), due_ms=int(due))


async def _heads(redis: Redis, ready: Iterable[_Ready]) -> Mapping[int, Sequence[HeadView]]:
    """By partition. A session whose head cannot be read, or is gone meanwhile, is left out."""
    sessions = list(ready)
    if not sessions:
        return {}
    pipeline = redis.pipeline(transaction=False)
    for one in sessions:
        pipeline.lindex(keys.mailbox(one.partition, one.session), 0)
    runs = await execute(pipeline)
    waiting = [(one, ScopedRunId(run)) for one, run in zip(sessions, runs, strict=True) if isinstance(run, str)]
    if not waiting:
        return {}
    pipeline = redis.pipeline(transaction=False)
    for one, run in waiting:
        pipeline.hget(keys.run(one.partition, run), "submitted_ms")
    found: dict[int, list[HeadView]] = {}
    for (one, run), submitted in zip(waiting, await execute(pipeline), strict=True):
        since = number(readable(submitted, None))
        if since is None:
            continue
        tenant, session_id = split_session_key(one.session)
        head = HeadView(
            run_id=split_run_id(run)[1],
            session_id=session_id,
            tenant=tenant,
            partition=one.partition,
            since_ms=since,
            due_ms=one.due_ms,
        )
        found.setdefault(one.partition, []).append(head)
    return found


def _partition(partition: int, group: Sequence[Any], now: int) -> PartitionView:
    lease, stats, doorbells, live, ready, _, dead, newest_dead = group
    lease_key, ready_key, dead_key = keys.lease(partition), keys.ready(partition), keys.dead(partition)
    names = (
        *(lease_key, keys.stats(partition), keys.queue(partition), keys.live(partition)),
        *(ready_key, ready_key, dead_key, dead_key),
    )
    broken = dict.fromkeys(
        f"{name}: {reply}" for name, reply in zip(names, group, strict=True) if isinstance(reply, Exception)
    )
    held: dict[str, str] = readable(lease, {})
    counters: dict[str, str] = readable(stats, {})
    newest = readable(newest_dead, [])
    unreadable_lease = isinstance(lease, Exception)
    for name in ("expires", "reserved_until"):
        if held.get(name) and number(held[name]) is None:
            broken[f"{lease_key}: its {name} is {held[name]!r}, no number"] = None
            unreadable_lease = True
    return PartitionView(
        partition=partition,
        state=PartitionState.BROKEN if unreadable_lease else _state(held, now),
        worker=held.get("owner", "").rpartition("#")[0],
        fence=held.get("fence", ""),
        reserved_for=held.get("reserved_for", ""),
        expires_ms=number(held.get("expires")) or 0,
        submitted=number(counters.get("submitted")) or 0,
        finished=number(counters.get("finished")) or 0,
        pending=number(counters.get("pending")) or 0,
        doorbells=readable(doorbells, 0),
        live=readable(live, 0),
        ready=readable(ready, 0),
        dead_letters=readable(dead, 0),
        last_dead_ms=number(newest[0][0].partition("-")[0]) or 0 if newest else 0,
        broken="; ".join(broken),
    )


def _state(lease: Mapping[str, str], now: int) -> PartitionState:
    if lease.get("owner"):
        return PartitionState.OWNED if (number(lease.get("expires")) or 0) > now else PartitionState.LAPSED
    reserved = lease.get("reserved_for") and (number(lease.get("reserved_until")) or 0) > now
    return PartitionState.RESERVED if reserved else PartitionState.FREE


async def _workers(
    redis: Redis, deadlines: Mapping[str, float], members: Mapping[str, float], now: int
) -> tuple[WorkerView, ...]:
    if not deadlines:
        return ()
    names = sorted(deadlines)
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.hgetall(keys.worker(name))
    return tuple(
        _worker(name, said, silent_ms=max(0, now - int(deadlines[name])), member=members.get(name, 0) > now)
        for name, said in zip(names, await execute(pipeline), strict=True)
    )


def _worker(name: str, said: Any, *, silent_ms: int, member: bool) -> WorkerView:
    fields: dict[str, str] = readable(said, {})
    unreadable = f"{keys.worker(name)}: {said}" if isinstance(said, Exception) else ""
    return WorkerView(
        name=name,
        silent_ms=silent_ms,
        member=member,
        node=fields.get("node", ""),
        host=fields.get("host", ""),
        pid=number(fields.get("pid")),
        release=fields.get("release", ""),
        started_ms=number(fields.get("started_ms")),
        seen_ms=number(fields.get("seen")),
        problem=fields.get("problem", ""),
        config_version=number(fields.get("config_version")),
        config_problem=fields.get("config_problem", ""),
        draining=fields.get("draining") == "1",
        concurrency=number(fields.get("concurrency")),
        executing=number(fields.get("executing")),
        sessions=number(fields.get("sessions")),
        partitions=number(fields.get("partitions")),
        metrics_port=number(fields.get("metrics_port")),
        health_port=number(fields.get("health_port")),
        unreadable=unreadable,
    )
