"""Who is there (heartbeats) and who owns which partition (leases)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE, outage
from runtime_core.store.scripts import arguments, fenced, run_fleet_script, run_script, run_scripts, sha, source
from runtime_core.store.timing import LEASE_TTL_MS, RESERVATION_MS, WORKER_TTL_MS

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Lease:
    """Time-bounded ownership. ``owner`` is ``<worker>#<uuid of this acquisition>``; ``fence`` grows with each."""

    partition: int
    owner: str
    fence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewed:
    """What a renewal of one partition brought along."""

    #: Running runs that are to be cancelled.
    cancels: Sequence[ScopedRunId]
    #: Waiting runs that are to look again.
    woken: Sequence[ScopedRunId]


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What a sweep of one partition found."""

    #: What the store believes to be running there: (run, attempt).
    running: Sequence[tuple[ScopedRunId, int]]
    #: Cancelled runs whose children are still to be cancelled.
    cascades: Sequence[ScopedRunId]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseView:
    """A lease as anyone may read it; times are ms by the clock of Redis. ``owner`` is empty when it is free."""

    partition: int
    owner: str
    fence: str
    expires_ms: int
    reserved_for: str
    reserved_until_ms: int
    #: What is wrong with the key, if it cannot be read: nobody takes such a partition.
    broken: str = ""

    @property
    def worker(self) -> str:
        return self.owner.rpartition("#")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetView:
    """Members and leases, read in one round trip at ``now_ms`` by the clock of Redis."""

    now_ms: int
    #: Since when (ms) Redis has answered the fleet without a gap: a lease can only have lapsed in the time after it.
    steady_since_ms: int
    #: The workers that take partitions: those whose heartbeat is young and that do not drain.
    members: frozenset[str]
    leases: Sequence[LeaseView]
    #: The current version of the agents config; 0 before the first.
    config_version: int = 0
    #: How many times agents were reloaded.
    reloads: int = 0


class LeaseStore:
    def __init__(self, client: Redis) -> None:
        self._redis = client

    async def heartbeat(
        self, worker: str, info: Mapping[str, str], *, accepting: bool, ttl_ms: int = WORKER_TTL_MS
    ) -> None:
        """Say that ``worker`` lives, for another ``ttl_ms``, and what it is; it is a member while it is ``accepting``
        partitions. A takeover of a worker that beats is no crash.
        """
        said = [text for item in info.items() for text in item]
        await run_fleet_script(self._redis, "heartbeat", keys.WORKERS, worker, ttl_ms, int(accepting), *said)

    async def living(self) -> Mapping[str, str]:
        """The workers whose heartbeat is young: worker → its Celery node."""
        seconds, micros = await self._redis.time()
        now = seconds * 1000 + micros // 1000
        call: Any = self._redis.zrangebyscore(keys.WORKERS, f"({now}", "+inf")
        names: list[str] = await call
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hget(keys.worker(name), "node")
        nodes = await pipeline.execute()
        return {name: node or "" for name, node in zip(names, nodes, strict=True)}

    async def leave(self, worker: str) -> None:
        """Forget a worker that goes away in order."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrem(keys.WORKERS, worker)
        pipeline.zrem(keys.MEMBERS, worker)
        pipeline.delete(keys.worker(worker), keys.probation(worker))
        await pipeline.execute()

    async def observe(self, partitions: int) -> FleetView:
        """Read the whole fleet: O(P), one round trip. A lease that cannot be read is ``broken``, the others are not."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hmget(keys.PULSE, "since", "last")
        pipeline.zrange(keys.MEMBERS, 0, -1, withscores=True)
        pipeline.get(keys.CONFIG)
        pipeline.hget(keys.RELOADS, keys.RELOADS_COUNT)
        for partition in range(partitions):
            pipeline.hmget(keys.lease(partition), "owner", "fence", "expires", "reserved_for", "reserved_until")
        time, pulse, members, config_version, reloads, *leases = await pipeline.execute(raise_on_error=False)
        for reply in (time, pulse, members, config_version, reloads, *leases):
            refused = (outage(reply) or reply) if isinstance(reply, ResponseError) else reply
            if isinstance(refused, RETRYABLE):
                raise refused
        for reply in (time, pulse, members):
            if isinstance(reply, Exception):
                raise reply
        (seconds, micros), (since, _) = time, pulse
        now = int(seconds) * 1000 + int(micros) // 1000
        return FleetView(
            now_ms=now,
            steady_since_ms=int(since or now),
            members=frozenset(name for name, deadline in members if deadline > now),
            leases=[_lease_view(partition, values) for partition, values in enumerate(leases)],
            config_version=_number(config_version),
            reloads=_number(reloads),
        )

    async def acquire(self, partition: int, owner: str) -> Lease | None:
        """Take a free partition, or one whose lease was not renewed for a TTL during which Redis answered the fleet;
        None if it is neither.

        The caller makes ``owner`` unique to this acquisition and repeats with the same one after a lost reply.
        """
        reply = await run_script(self._redis, "acquire", partition, owner, LEASE_TTL_MS)
        return Lease(partition, owner, reply[1]) if reply[0] == "OK" else None

    async def release(self, lease: Lease, *, reserved_for: str = "") -> None:
        """Give a partition up; what still runs there is requeued as a handover. A lease already lost is no error."""
        reply = await run_script(
            self._redis, "release", lease.partition, lease.owner, lease.fence, reserved_for, RESERVATION_MS
        )
        if reply[0] != "FENCED":
            fenced(reply, f"release of partition {lease.partition}")

    async def sweep(self, leases: Mapping[Lease, int]) -> list[Swept | RunlaneError]:
        """Ring overdue heads again and end runs past their queue deadline, in one round trip for all partitions.

        ``leases`` gives for each the doorbells that are in the worker's hands. Per lease: what it found, or LeaseLost,
        or what is wrong with the partition's keys.
        """
        calls = [(lease.partition, (lease.owner, lease.fence, in_hand)) for lease, in_hand in leases.items()]
        replies = await run_scripts(self._redis, "sweep", calls)
        return [_checked(lease, "sweep", reply, _swept) for lease, reply in zip(leases, replies, strict=True)]


def _swept(reply: list[Any]) -> Swept:
    running, cascades = reply
    return Swept(
        running=[(ScopedRunId(run), int(attempt)) for run, attempt in zip(running[::2], running[1::2], strict=True)],
        cascades=[ScopedRunId(run) for run in cascades],
    )


def _number(reply: Any) -> int:
    """A counter; what cannot be read counts as never written, for partitions must be kept all the same."""
    return int(reply) if isinstance(reply, str) and reply.isdigit() else 0


def _lease_view(partition: int, reply: list[str | None] | Exception) -> LeaseView:
    try:
        if isinstance(reply, Exception):
            raise reply
        owner, fence, expires, reserved_for, reserved_until = reply
        return LeaseView(
            partition=partition,
            owner=owner or "",
            fence=str(int(fence or 0)),
            expires_ms=int(expires or 0),
            reserved_for=reserved_for or "",
            reserved_until_ms=int(reserved_until or 0),
        )
    except (ResponseError, ValueError) as error:
        return LeaseView(
            partition=partition,
            owner="",
            fence="0",
            expires_ms=0,
            reserved_for="",
            reserved_until_ms=0,
            broken=f"{keys.lease(partition)} cannot be read: {error}",
        )


def renew(client: redis.Redis, leases: Sequence[Lease]) -> list[Renewed | RunlaneError]:
    """Renew leases in one round trip, from the renewal thread's own connection.

    Per lease: what its runs are to hear, or LeaseLost, or what is wrong with the
    partition's keys. Raises redis errors when Redis does not answer.
    """
    replies = _send_renewals(client, leases)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        client.script_load(source("renew"))
        replies = _send_renewals(client, leases)
    return [_checked(lease, "renewal", reply, _renewed) for lease, reply in zip(leases, replies, strict=True)]


def _send_renewals(client: redis.Redis, leases: Sequence[Lease]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for lease in leases:
        values = (lease.owner, lease.fence, LEASE_TTL_MS)
        pipeline.execute_command("EVALSHA", sha("renew"), 1, *arguments(lease.partition, values))
    return pipeline.execute(raise_on_error=False)


def _renewed(reply: list[Any]) -> Renewed:
    cancels, woken = reply
    return Renewed(cancels=[ScopedRunId(run) for run in cancels], woken=[ScopedRunId(run) for run in woken])


def _checked(lease: Lease, what: str, reply: Any, parse: Callable[[list[Any]], Parsed]) -> Parsed | RunlaneError:
    if isinstance(reply, ResponseError):
        reply = outage(reply) or reply
    if isinstance(reply, RETRYABLE):
        raise reply
    if isinstance(reply, Exception):  # one partition's keys are broken; the others are answered
        return RunlaneError(f"{what} of partition {lease.partition} failed: {reply}")
    try:
        return parse(fenced(reply, f"{what} of partition {lease.partition}")[1:])
    except RunlaneError as error:
        return error
