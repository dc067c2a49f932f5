"""How much waits in the partitions that this worker holds: three round trips, O(held) cheap commands, no scan.

Read from a scrape's thread, over a connection of its own that gives up soon: a scrape does not hang while Redis is
away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE, outage
from runtime_core.store.replies import number, readable, server_time_ms

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
    #: Those whose keys can be read.
    partitions: Mapping[int, PartitionDepth]


def read_queues(client: redis.Redis, partitions: Sequence[int]) -> Queues:
    """Raises one of RETRYABLE if Redis cannot serve."""
    commands: list[tuple[Any, ...]] = [("TIME",), ("LLEN", keys.INGRESS_QUEUE)]
    for partition in partitions:
        commands += (
            ("LLEN", keys.queue(partition)),
            ("HMGET", keys.stats(partition), "pending", "dead_letters"),
            ("ZCARD", keys.ready(partition)),
            ("ZRANGE", keys.ready(partition), 0, 0),
        )
    time, ingress, *replies = _ask(client, commands)
    groups = {partition: replies[4 * at : 4 * at + 4] for at, partition in enumerate(partitions)}
    groups = {at: group for at, group in groups.items() if not any(isinstance(reply, Exception) for reply in group)}
    submitted = _submitted_ms(client, {at: SessionKey(first[0]) for at, (*_, first) in groups.items() if first})
    now = server_time_ms(time)
    return Queues(
        ingress=readable(ingress, 0),
        partitions={
            at: PartitionDepth(
                doorbells=doorbells,
                pending=number(pending) or 0,
                waiting_sessions=waiting,
                oldest_wait_s=max(0, now - submitted.get(at, now)) / 1000,
                dead_letters=number(dead_letters) or 0,
            )
            for at, (doorbells, (pending, dead_letters), waiting, _) in groups.items()
        },
    )


def _submitted_ms(client: redis.Redis, sessions: Mapping[int, SessionKey]) -> Mapping[int, int]:
    """By partition: when the head of the session was submitted; without those that started meanwhile."""
    found = _ask(client, [("LINDEX", keys.mailbox(at, session), 0) for at, session in sessions.items()])
    heads = {at: ScopedRunId(head) for at, head in zip(sessions, found, strict=True) if isinstance(head, str)}
    times = _ask(client, [("HGET", keys.run(at, head), "submitted_ms") for at, head in heads.items()])
    return {at: time for at, reply in zip(heads, times, strict=True) if (time := number(reply)) is not None}


def _ask(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The reply of each, or the ResponseError of one whose key has another type."""
    if not commands:
        return []
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies = pipeline.execute(raise_on_error=False)
    for reply in replies:
        refused = (outage(reply) or reply) if isinstance(reply, ResponseError) else reply
        if isinstance(refused, RETRYABLE):
            raise refused
    return replies
