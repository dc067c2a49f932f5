"""How much waits in the partitions that this worker holds: three round trips, O(held) cheap commands, no scan.

Read from a scrape's thread, over a connection of its own that gives up soon: a scrape does not hang while Redis is
away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys

#: Seconds for one round trip. Prometheus waits 10 s for a scrape; Redis answers within milliseconds or is away.
QUEUES_TIMEOUT = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionDepth:
    doorbells: int
    pending: int
    waiting_sessions: int
    oldest_wait_s: float
    dead_letters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Queues:
    """``ingress`` counts the submissions of plain Celery clients that no worker took yet."""

    ingress: int
    partitions: Mapping[int, PartitionDepth]


def read_queues(client: redis.Redis, partitions: Sequence[int]) -> Queues:
    """Raises a RedisError or OSError if Redis does not answer. A partition whose keys are broken is left out."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.llen(keys.INGRESS_QUEUE)
    for partition in partitions:
        pipeline.llen(keys.queue(partition))
        pipeline.hmget(keys.stats(partition), "pending", "dead_letters")
        pipeline.zcard(keys.ready(partition))
        pipeline.zrange(keys.ready(partition), 0, 0)
    (seconds, micros), ingress, *replies = pipeline.execute(raise_on_error=False)
    groups = {partition: replies[4 * at : 4 * at + 4] for at, partition in enumerate(partitions)}
    readable = {
        partition: group
        for partition, group in groups.items()
        if not any(isinstance(reply, Exception) for reply in group)
    }
    next_up = {partition: SessionKey(group[3][0]) for partition, group in readable.items() if group[3]}
    submitted = _submitted_ms(client, next_up)
    now = int(seconds) * 1000 + int(micros) // 1000
    return Queues(
        ingress=ingress if isinstance(ingress, int) else 0,
        partitions={
            partition: PartitionDepth(
                doorbells=doorbells,
                pending=int(stats[0] or 0),
                waiting_sessions=waiting,
                oldest_wait_s=max(0, now - submitted.get(partition, now)) / 1000,
                dead_letters=int(stats[1] or 0),
            )
            for partition, (doorbells, stats, waiting, _) in readable.items()
        },
    )


def _submitted_ms(client: redis.Redis, sessions: Mapping[int, SessionKey]) -> Mapping[int, int]:
    """When the head of each session was submitted; without those that started meanwhile."""
    heads = _each(client, "LINDEX", {at: (keys.mailbox(at, session), 0) for at, session in sessions.items()})
    records = {at: (keys.run(at, ScopedRunId(head)), "submitted_ms") for at, head in heads.items()}
    return {at: int(value) for at, value in _each(client, "HGET", records).items()}


def _each(client: redis.Redis, command: str, arguments: Mapping[int, tuple[Any, ...]]) -> Mapping[int, str]:
    if not arguments:
        return {}
    pipeline = client.pipeline(transaction=False)
    for values in arguments.values():
        pipeline.execute_command(command, *values)
    replies = pipeline.execute(raise_on_error=False)
    return {
        at: reply
        for at, reply in zip(arguments, replies, strict=True)
        if reply is not None and not isinstance(reply, RedisError)
    }
