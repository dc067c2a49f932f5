"""What is wrong with Redis, and with clocks."""

from __future__ import annotations

from collections.abc import Iterator

from producer.diagnosis.finding import Finding, error, names, warning
from producer.diagnosis.reading import Reading
from runtime_core.store.keys import PROTOCOL_VERSION

#: The oldest Redis whose commands the scripts use.
_MINIMUM = (6, 2)
#: Of maxmemory.
_NEARLY_FULL = 0.85
#: Milliseconds. Every event of a run is a round trip.
_SLOW_MS = 50
#: Milliseconds. Leases need no clocks that agree; deadlines and times that people compare do.
_SKEW_MS = 2_000


def check_server(reading: Reading) -> Iterator[Finding]:
    server = reading.server
    if server.version is None:
        yield warning(
            "redis",
            "this login may not call INFO",
            why="its version, memory and persistence cannot be checked",
            fix="permit it: ACL SETUSER <user> +info",
        )
    elif _version(server.version) < _MINIMUM:
        yield error(
            "redis",
            f"Redis is {server.version}",
            why="the scripts need 6.2 or later",
            fix="upgrade Redis to 6.2 or later",
        )
    if server.role not in (None, "master"):
        yield error("redis", "it is a replica", why="nothing can be written there", fix="name the primary: --redis-url")
    if server.maxmemory_policy not in (None, "noeviction"):
        yield error(
            "redis",
            f"maxmemory-policy is {server.maxmemory_policy}",
            why="Redis may evict records of accepted runs",
            fix="redis-cli config set maxmemory-policy noeviction (and in redis.conf)",
        )
    if server.maxmemory and server.used_memory and server.used_memory >= _NEARLY_FULL * server.maxmemory:
        yield warning(
            "redis",
            f"{server.used_memory / server.maxmemory:.0%} of its memory is used",
            why="when it is full, runs pause and submits fail",
            fix="redis-cli config set maxmemory <bytes>, or wait until finished runs expire (24 h)",
        )
    if server.aof_enabled is False:
        yield warning(
            "redis",
            "it writes no append-only file",
            why="accepted runs are lost when it restarts",
            fix="redis-cli config set appendonly yes (and in redis.conf)",
        )
    if server.aof_ok is False or server.rdb_ok is False:
        what = "write of the append-only file" if server.aof_ok is False else "snapshot"
        yield error(
            "redis",
            f"its last {what} failed",
            why="it refuses writes, or loses them at a restart",
            fix="look at its log and at the free space of its disk: redis-cli info persistence",
        )
    if reading.latency_ms > _SLOW_MS:
        yield warning(
            "redis",
            f"a round trip took {reading.latency_ms:.0f} ms",
            why="each event and each tool call of a run waits for one",
            fix="redis-cli --latency, redis-cli slowlog get",
        )


def check_store(reading: Reading) -> Iterator[Finding]:
    status = reading.status
    for problem in status.unreadable:
        yield error(
            "store", problem, why="another program wrote it", fix="look at it with redis-cli type <key>, then delete it"
        )
    if status.protocol is None and not status.unreadable:
        yield warning(
            "store",
            "nobody has used it yet",
            why="there are no partitions before a worker or client came",
            fix="is this the right database? else start a worker: runlane worker --config agents.yaml",
        )
    elif status.protocol not in (None, PROTOCOL_VERSION):
        yield error(
            "store",
            f"its protocol version is {status.protocol}, this release speaks {PROTOCOL_VERSION}",
            why="processes of this release refuse it",
            fix="run the same release everywhere, or use another Redis database",
        )


def check_clocks(reading: Reading) -> Iterator[Finding]:
    if abs(reading.clock_ahead_ms) > _SKEW_MS:
        yield warning(
            "clock",
            f"the clock of Redis is {_apart(reading.clock_ahead_ms)} this machine's",
            why="--since and the times that are shown are off by that",
            fix="synchronize both machines: timedatectl",
        )
    off = [
        f"{worker.name} is {_apart(skew)}"
        for worker in reading.status.workers
        if worker.seen_ms is not None
        and not worker.silent_ms
        # It spoke up to a heartbeat ago, so that much behind is no skew.
        and abs(skew := worker.seen_ms - reading.status.now_ms) > _SKEW_MS + 1_000
    ]
    if off:
        yield warning(
            "clock",
            f"clocks of workers are not that of Redis: {names(off)} it",
            why="times in their logs and events do not fit those of the records",
            fix="synchronize these machines: timedatectl",
        )


def _apart(milliseconds: int) -> str:
    return f"{abs(milliseconds) / 1000:.1f} s {'ahead of' if milliseconds > 0 else 'behind'}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:2])
