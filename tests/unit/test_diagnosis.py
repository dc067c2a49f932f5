"""Each finding of the doctor by its own case: a healthy reading with one thing wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from producer.diagnosis.diagnose import diagnose
from producer.diagnosis.finding import Finding, Severity, names
from producer.diagnosis.reading import Reading
from runtime_core.contracts.checkup import FullSession, HeldSession, ServerView, Troubles
from runtime_core.contracts.fleet import FleetStatus, HeadView, PartitionState, PartitionView, WorkerView
from runtime_core.store.keys import PROTOCOL_VERSION

NOW = 1_000_000_000

WORKER = WorkerView(
    name="w1",
    silent_ms=0,
    member=True,
    host="h",
    pid=7,
    release="1",
    started_ms=NOW - 60_000,
    seen_ms=NOW - 400,
    config_version=3,
    concurrency=10,
    executing=1,
)
PARTITION = PartitionView(partition=0, state=PartitionState.OWNED, worker="w1", expires_ms=NOW + 5_000)
SERVER = ServerView(
    now_ms=NOW,
    version="7.2.1",
    role="master",
    maxmemory_policy="noeviction",
    maxmemory=1_000,
    used_memory=100,
    aof_enabled=True,
    aof_ok=True,
    rdb_ok=True,
    ingress=0,
)
STATUS = FleetStatus(
    now_ms=NOW,
    redis_version="7.2.1",
    protocol=PROTOCOL_VERSION,
    partition_count=1,
    config_version=3,
    workers=(WORKER,),
    partitions=(PARTITION,),
    ingress=0,
    bad_ingress=0,
)
HEALTHY = Reading(
    status=STATUS,
    server=SERVER,
    troubles=Troubles(),
    ingress_before=0,
    latency_ms=1.0,
    clock_ahead_ms=3,
    variables=("RUNLANE_REDIS_URL", "RUNLANE_LOG_LEVELS", "PATH"),
)


def server(**fields: Any) -> Reading:
    return replace(HEALTHY, server=replace(SERVER, **fields))


def status(**fields: Any) -> Reading:
    return replace(HEALTHY, status=replace(STATUS, **fields))


def worker(**fields: Any) -> Reading:
    return status(workers=(replace(WORKER, **fields),))


def beside(**fields: Any) -> Reading:
    """Another worker, with ``fields``, beside the healthy one."""
    return status(workers=(WORKER, replace(WORKER, name="w2", **fields)))


def partition(**fields: Any) -> Reading:
    return status(partitions=(replace(PARTITION, **fields),))


def head(*, waited_ms: int, overdue_ms: int) -> HeadView:
    return HeadView(
        run_id="r",
        session_id="s",
        tenant="default",
        partition=0,
        since_ms=NOW - waited_ms,
        due_ms=NOW - overdue_ms,
    )


STUCK = head(waited_ms=20_000, overdue_ms=15_000)
HELD = HeldSession(
    session_id="s", tenant="default", partition=0, run_id="r", state="finished", finished_ms=NOW - 11_000
)
FULL = FullSession(session_id="s", tenant="default", partition=0, pending=1_000)

ERRORS: dict[str, tuple[Reading, str, str]] = {
    "an old Redis": (server(version="6.0.16"), "redis", "Redis is 6.0.16"),
    "a replica": (server(role="slave"), "redis", "replica"),
    "eviction": (server(maxmemory_policy="allkeys-lru"), "redis", "allkeys-lru"),
    "a failed write of the append-only file": (server(aof_ok=False), "redis", "append-only file failed"),
    "a failed snapshot": (server(rdb_ok=False), "redis", "snapshot failed"),
    "a key that cannot be read": (status(unreadable=("rl:workers: WRONGTYPE",)), "store", "rl:workers"),
    "another protocol": (status(protocol=1), "store", "protocol version is 1"),
    "no worker": (status(workers=()), "workers", "no worker beats"),
    "silent workers only": (worker(silent_ms=4_000, member=False), "workers", "no worker beats"),
    "no worker that takes partitions": (worker(member=False, draining=True), "workers", "takes partitions: w1"),
    "a worker with a problem": (worker(problem="its consumer is silent"), "workers", "its consumer is silent"),
    "a worker that cannot be read": (worker(unreadable="rl:worker:w1: WRONGTYPE"), "workers", "rl:worker:w1"),
    "a worker that does not consume": (partition(heads=(STUCK,)), "workers", "w1 beats but does not consume"),
    "a config that does not load": (worker(config_problem="no module x"), "config", "no module x"),
    "a lease that nobody takes": (
        partition(state=PartitionState.LAPSED, expires_ms=NOW - 8_001, pending=3),
        "partitions",
        "whose lease lapsed: p0000; 3 runs",
    ),
    "a partition that nobody owns": (partition(state=PartitionState.FREE), "partitions", "without an owner: p0000"),
    "a broken lease": (
        partition(state=PartitionState.BROKEN, broken="rl:{p0000}:lease: WRONGTYPE"),
        "partitions",
        "p0000 cannot be read",
    ),
}

WARNINGS: dict[str, tuple[Reading, str, str]] = {
    "INFO is not permitted": (server(version=None), "redis", "INFO"),
    "memory nearly full": (server(used_memory=850), "redis", "85% of its memory"),
    "no append-only file": (server(aof_enabled=False), "redis", "append-only"),
    "a slow round trip": (replace(HEALTHY, latency_ms=51), "redis", "51 ms"),
    "a new store": (status(protocol=None), "store", "nobody has used it"),
    "a clock ahead": (replace(HEALTHY, clock_ahead_ms=2_500), "clock", "2.5 s ahead of this machine"),
    "a clock behind": (replace(HEALTHY, clock_ahead_ms=-2_500), "clock", "2.5 s behind this machine"),
    "a worker's clock": (worker(seen_ms=NOW + 3_100), "clock", "w1 is 3.1 s ahead of"),
    "a silent worker": (
        beside(silent_ms=4_000, member=False, seen_ms=NOW - 7_000),
        "workers",
        "silent: w2 for 4 s",
    ),
    "a full worker": (
        status(workers=(replace(WORKER, executing=10),), partitions=(replace(PARTITION, heads=(STUCK,)),)),
        "workers",
        "all 10 slots of w1 are taken",
    ),
    "an old config": (beside(config_version=2), "config", "w2 has 2"),
    "two releases": (beside(release="2"), "config", "1 on 1, 2 on 1"),
    "a growing ingress queue": (replace(status(ingress=9), ingress_before=5), "queues", "5 submissions waited"),
    "submissions that cannot be read": (status(bad_ingress=2), "queues", "2 submissions"),
    "dead letters": (partition(dead_letters=2, last_dead_ms=NOW - 1), "queues", "given up on"),
    "a held session": (replace(HEALTHY, troubles=Troubles(held=(HELD,))), "sessions", "'s' by run r (finished)"),
    "a full session": (replace(HEALTHY, troubles=Troubles(full=(FULL,))), "sessions", "'s' with 1,000"),
    "a misspelt setting": (
        replace(HEALTHY, variables=("RUNLANE_REDISURL",)),
        "environment",
        "did you mean RUNLANE_REDIS_URL",
    ),
    "an unknown setting": (replace(HEALTHY, variables=("RUNLANE_ZZZ_QQ",)), "environment", "RUNLANE_ZZZ_QQ is no"),
}

FINE: dict[str, Reading] = {
    "healthy": HEALTHY,
    "a head whose doorbell is not overdue": partition(heads=(head(waited_ms=60_000, overdue_ms=9_000),)),
    "a head that is new": partition(heads=(head(waited_ms=9_000, overdue_ms=15_000),)),
    "a lease that lapsed just now": partition(state=PartitionState.LAPSED, expires_ms=NOW - 7_900),
    "a reserved partition": partition(state=PartitionState.RESERVED, reserved_for="w2"),
    "partitions of a fleet that starts": status(
        workers=(replace(WORKER, started_ms=NOW - 3_000),),
        partitions=(replace(PARTITION, state=PartitionState.FREE),),
    ),
    "an ingress queue that shrinks": replace(status(ingress=5), ingress_before=9),
    "dead letters of the day before": partition(dead_letters=2, last_dead_ms=NOW - 25 * 3_600_000),
    "a session that is held for a moment": replace(
        HEALTHY, troubles=Troubles(held=(replace(HELD, finished_ms=NOW - 9_000),))
    ),
    "no limit of memory": server(maxmemory=0),
    "a worker without words": status(workers=(WorkerView(name="w1", silent_ms=0, member=True),)),
}


def only(found: Sequence[Finding]) -> Finding:
    (finding,) = found
    return finding


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_no_finding(name: str) -> None:
    assert diagnose(FINE[name]) == []


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_named_with_what_to_do(name: str) -> None:
    reading, check, what = ERRORS[name]
    found = [finding for finding in diagnose(reading) if finding.severity is Severity.ERROR]
    finding = only(found)
    assert (finding.check, finding.why != "", finding.fix != "") == (check, True, True)
    assert what in finding.what


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_named_with_what_to_do(name: str) -> None:
    reading, check, what = WARNINGS[name]
    finding = only(diagnose(reading))
    assert (finding.check, finding.severity, finding.fix != "") == (check, Severity.WARNING, True)
    assert what in finding.what


def test_errors_come_first() -> None:
    reading = replace(server(aof_enabled=False), status=replace(STATUS, workers=()))
    assert [finding.severity for finding in diagnose(reading)] == [Severity.ERROR, Severity.WARNING]


def test_a_worker_with_a_problem_is_not_told_twice() -> None:
    reading = status(
        workers=(replace(WORKER, problem="its consumer is silent"),),
        partitions=(replace(PARTITION, heads=(STUCK,)),),
    )
    assert only(diagnose(reading)).what.endswith("its consumer is silent")


@pytest.mark.parametrize(("version", "why"), [(2, "it keeps version 2"), (3, "runs of that agent fail there")])
def test_a_config_that_a_worker_started_with_is_told_from_one_that_it_refused(version: int, why: str) -> None:
    (finding,) = diagnose(worker(config_problem="no module x", config_version=version))
    assert why in finding.why


def test_a_long_list_is_shortened() -> None:
    assert names([str(number) for number in range(7)]) == "0, 1, 2, 3, 4 and 2 more"
