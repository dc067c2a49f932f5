"""Whether a run costs more where there is more of everything: partitions, sessions that are known, runs that queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from redis import Redis

from runtime_core.ids import DEFAULT_TENANT, session_key
from runtime_core.partitioning import DEFAULT_PARTITIONS, partition_of
from runtime_core.store import keys
from runtime_core.store.connection import connect, connect_sync
from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness import usage
from tests.benchmarks.harness.figures import Spread, at_most
from tests.benchmarks.harness.systems import Runlane, Stage
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

_PARTITIONS, _KNOWN, _QUEUED, _READY = (1, 64, 256), (10, 1_000, 100_000), (1, 10_000), (1_200, 10_000)
#: Sessions that the measured runs belong to; the fewest that are known.
_SESSIONS = 10
#: Heads of the sessions in which the backlog stands (one takes a thousand runs), and the seconds that they await:
#: longer than we measure.
_HEADS, _HEAD_AWAITS = 20, "120"
#: Keys of one pipeline.
_BATCH = 5_000
_LOOK_EVERY_S = 0.02
_SESSION_S = 30 * 24 * 3_600


def _cost(stage: Stage, scale: Scale, sessions: int) -> Mapping[str, float]:
    found = stage.throughput("noop", scale.count(1_000, 200), many=True, sessions=sessions)
    return {"CPU": found["worker_ms"] + found["redis_ms"], "wall": 1_000 / found["per_s"]}


def _partitions(partitions: int, scale: Scale) -> Mapping[str, float]:
    with Runlane(NO_OP, partitions=partitions).stage() as stage:
        stage.warm_up(many=True)
        return _cost(stage, scale, sessions=100)


def _known(sessions: int, scale: Scale) -> Mapping[str, float]:
    with Runlane(NO_OP).stage() as stage:
        stage.warm_up(many=True, sessions=_SESSIONS)
        asyncio.run(_remember(stage.redis.url, sessions - _SESSIONS))
        return _cost(stage, scale, sessions=_SESSIONS)


async def _remember(url: str, sessions: int) -> None:
    """Write what a no-op run leaves of its session: a hundred thousand runs would take minutes."""
    redis = connect(url)
    left: Any = {"config_version": "1", "last_run_ms": str(time.time_ns() // 1_000_000)}
    for start in range(0, sessions, _BATCH):
        pipeline = redis.pipeline(transaction=False)
        for number in range(start, min(start + _BATCH, sessions)):
            session = session_key(DEFAULT_TENANT, f"known-{number}")
            meta = keys.session_part(partition_of(session, DEFAULT_PARTITIONS), session, "meta")
            pipeline.hset(meta, mapping=left)
            pipeline.expire(meta, _SESSION_S)
        await pipeline.execute()
    await redis.aclose()


def _queued(runs: int, scale: Scale) -> Mapping[str, float]:
    """The backlog stands still behind runs that await, so that it is as long at the end as at the start."""
    with Runlane(NO_OP).stage() as stage:
        stage.warm_up(many=True)
        stage.caller.ask("queue", job=_HEAD_AWAITS, count=_HEADS, sessions=_HEADS, prefix="behind")
        runs = min(runs, scale.count(10_000, 1_000))
        stage.caller.ask("queue", job="noop", count=runs, sessions=_HEADS, prefix="behind")
        return _cost(stage, scale, sessions=100)


def _ready(runs: int, scale: Scale) -> Mapping[str, float]:
    """The backlog is ready to run, each of its runs in a session of its own; the cost of the next ones that finish."""
    runs, counted = min(runs, scale.count(10_000, 2_000)), scale.count(1_000, 200)
    with Runlane(NO_OP).stage() as stage, connect_sync(stage.redis.url) as redis:
        stage.warm_up(many=True)
        stage.caller.ask("queue", job="noop", count=runs, sessions=runs, prefix="ready")
        began, worker = time.perf_counter(), usage.cpu_s([*stage.workers, stage.redis.pid])
        before = finished = _finished(redis)
        while finished < before + counted:
            time.sleep(_LOOK_EVERY_S)
            finished = _finished(redis)
        spent = usage.cpu_s([*stage.workers, stage.redis.pid]) - worker
        seconds, ended = time.perf_counter() - began, finished - before
    return {"CPU": spent / ended * 1_000, "wall": seconds / ended * 1_000}


def _finished(redis: Redis) -> int:
    """Runs that have, in all partitions."""
    pipeline = redis.pipeline(transaction=False)
    for partition in range(DEFAULT_PARTITIONS):
        pipeline.hget(keys.stats(partition), "finished")
    return sum(int(count or 0) for count in pipeline.execute())


def _cases(what: str, levels: tuple[int, ...], measure: Callable[[int, Scale], Mapping[str, float]]) -> list[Case]:
    return [Case(system=name, measure=partial(measure, level)) for level, name in _names(what, levels).items()]


def _names(what: str, levels: tuple[int, ...]) -> dict[int, str]:
    return {level: f"{level:,} {what if level > 1 else what.removesuffix('s')}" for level in levels}


_LEVELS = {"partitions": _PARTITIONS, "known sessions": _KNOWN, "queued": _QUEUED, "ready": _READY}
_CASES = [
    *_cases("partitions", _PARTITIONS, _partitions),
    *_cases("known sessions", _KNOWN, _known),
    *_cases("queued", _QUEUED, _queued),
    *_cases("ready", _READY, _ready),
]
TABLE = Table(
    name="flat",
    title="flat: what a run costs with more of everything",
    note="CPU of worker and Redis for each no-op run of a thousand that are submitted at once, and time by the clock. "
    "Known sessions are those whose record stands in Redis. Queued runs stand in other sessions behind runs that "
    "await; ready ones wait for a slot, and the cost is that of the first thousand that finish. A value is the "
    "largest cost by the smallest.",
    units={"CPU": "ms/run", "wall": "ms/run"},
    cases=_CASES,
    comparisons=[
        *(
            Spread(
                label=f"CPU, {what}", measure="CPU", systems=tuple(_names(what, levels).values()), bound=at_most(1.3)
            )
            for what, levels in _LEVELS.items()
        ),
        *(
            Spread(label=f"wall, {what}", measure="wall", systems=tuple(_names(what, levels).values()))
            for what, levels in _LEVELS.items()
        ),
    ],
    chart=Chart(
        measures=["CPU"], systems=[name for what, levels in _LEVELS.items() for name in _names(what, levels).values()]
    ),
    most_rounds=3,
)
