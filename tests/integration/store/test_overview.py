"""What Redis says of the fleet: workers, partitions, queues, who waits, and what cannot be read."""

from __future__ import annotations

from redis.asyncio import Redis

from runtime_core.contracts.fleet import FleetStatus, PartitionState
from runtime_core.store import keys
from runtime_core.store.checkup import read_server, read_troubles
from runtime_core.store.meta import open_store
from runtime_core.store.overview import read_status
from tests.integration.store.conftest import PARTITION, Store

WORDS = {
    "node": "w1@h",
    "host": "h",
    "pid": "12",
    "release": "0.1",
    "problem": "it is tired",
    "config_version": "3",
    "draining": "1",
    "concurrency": "100",
    "executing": "7",
    "started_ms": "5",
    "metrics_port": "9100",
}


async def test_a_store_that_nobody_has_used_is_read_and_left_alone(redis: Redis) -> None:
    status = await read_status(redis)
    assert (status.protocol, status.partition_count, status.workers, status.partitions) == (None, 0, (), ())
    assert await redis.keys() == []


async def test_a_worker_is_shown_as_it_describes_itself(store: Store) -> None:
    await store.leases.heartbeat("w1", WORDS, accepting=True)
    await store.leases.heartbeat("w2", {}, accepting=False)
    first, second = (await read_status(store.redis)).workers
    assert (first.name, first.node, first.pid, first.problem, first.config_version) == (
        "w1",
        "w1@h",
        12,
        "it is tired",
        3,
    )
    assert (first.draining, first.member, first.silent_ms, first.executing, first.metrics_port) == (
        True,
        True,
        0,
        7,
        9100,
    )
    assert (second.name, second.member, second.pid, second.executing) == ("w2", False, None, None)


async def test_a_worker_that_fell_silent_is_shown_with_for_how_long(store: Store) -> None:
    await store.leases.heartbeat("w1", {}, accepting=True)
    overdue = await store.now_ms() - 4_000
    for known in (keys.WORKERS, keys.MEMBERS):
        await store.redis.zadd(known, {"w1": overdue})
    (worker,) = (await read_status(store.redis)).workers
    assert not worker.member
    assert 4_000 <= worker.silent_ms < 10_000


async def test_partitions_are_shown_with_their_lease_and_their_work(store: Store) -> None:
    await open_store(store.redis, 1)
    lease = await store.own()
    await store.submit("running", "a")
    await store.admitted(lease, "running")
    for run, session in (("behind", "a"), ("waits", "b"), ("waits-too", "c")):
        await store.submit(run, session)
    await store.redis.hset(keys.META, "partitions", 4)
    lapsed = await store.leases.acquire(1, "w2#1")
    assert lapsed is not None
    await store.expire(lapsed)
    left = await store.leases.acquire(2, "w3#1")
    assert left is not None
    await store.leases.release(left, reserved_for="w4")

    status = await read_status(store.redis)
    owned, gone, reserved, free = status.partitions
    assert (owned.state, owned.worker, owned.fence) == (PartitionState.OWNED, "w1", lease.fence)
    assert (owned.submitted, owned.pending, owned.live, owned.ready, owned.finished) == (4, 4, 1, 2, 0)
    assert owned.doorbells == 3, "a doorbell that was admitted by hand is still in the list"
    assert (gone.state, gone.worker) == (PartitionState.LAPSED, "w2")
    assert (reserved.state, reserved.reserved_for) == (PartitionState.RESERVED, "w4")
    assert (free.state, free.worker) == (PartitionState.FREE, "")
    assert (status.pending, status.count(PartitionState.OWNED)) == (4, 1)


async def test_the_oldest_waiting_run_is_the_head_that_was_submitted_first(store: Store) -> None:
    await open_store(store.redis, 1)
    for run in ("r1", "r2", "r3", "r4"):
        await store.submit(run, f"of {run}")
    for number, run in enumerate(("r2", "r3", "r1", "r4")):
        await store.redis.hset(f"rl:{{p0000}}:run:{run}", "submitted_ms", 1_000 + number)
    # The doorbell of r4 is due last, so it is not among the three that are looked at.
    await store.redis.zadd(keys.ready(PARTITION), {"default/of%20r4": await store.now_ms() + 60_000})
    status = await read_status(store.redis)
    assert [head.run_id for head in status.partitions[0].heads] == ["r2", "r3", "r1"]
    assert status.oldest_waiting is not None
    assert (status.oldest_waiting.run_id, status.oldest_waiting.session_id) == ("r2", "of r2")


async def test_a_spoilt_key_is_named_and_hides_nothing_else(store: Store) -> None:
    await open_store(store.redis, 1)
    await store.own()
    await store.leases.heartbeat("w1", WORDS, accepting=True)
    await store.submit("r1", "s")
    await store.redis.hset(keys.run(PARTITION, await store.submit("r2", "t")), "submitted_ms", "then")
    await store.redis.hset(keys.META, "partitions", 3)
    for key in (keys.lease(1), keys.ready(2), keys.queue(0), keys.MEMBERS, keys.BAD_INGRESS):
        await store.redis.delete(key)
        await store.redis.set(key, "garbage")
    await store.redis.hset(keys.stats(PARTITION), "pending", "many")
    await store.redis.delete(keys.worker("w1"))
    await store.redis.set(keys.worker("w1"), "garbage")

    status = await read_status(store.redis)
    assert [view.broken.partition(": ")[0] for view in status.partitions] == [
        "runs.p0000",
        keys.lease(1),
        keys.ready(2),
    ]
    states = [view.state for view in status.partitions]
    assert states == [PartitionState.OWNED, PartitionState.BROKEN, PartitionState.FREE]
    assert status.partitions[0].pending == 0
    assert [head.run_id for head in status.partitions[0].heads] == ["r1"]
    assert {problem.partition(": ")[0] for problem in status.unreadable} == {keys.MEMBERS, keys.BAD_INGRESS}
    assert "WRONGTYPE" in status.workers[0].unreadable


async def test_a_lease_with_a_time_that_is_none_is_broken(store: Store) -> None:
    await open_store(store.redis, 1)
    await store.redis.hset(keys.lease(0), mapping={"owner": "w1#1", "expires": "soon"})
    (view,) = (await read_status(store.redis)).partitions
    assert (view.state, "its expires is 'soon'" in view.broken) == (PartitionState.BROKEN, True)


async def test_a_number_of_partitions_that_is_none_is_named(redis: Redis) -> None:
    await open_store(redis, 1)
    for spoilt in ("lots", "0", "1025"):
        await redis.hset(keys.META, "partitions", spoilt)  # pyright: ignore[reportGeneralTypeIssues]
        status = await read_status(redis)
        assert (status.partition_count, f"its partitions are '{spoilt}'" in status.unreadable[0]) == (0, True)


async def test_the_server_says_what_the_doctor_asks(store: Store) -> None:
    await store.redis.rpush(keys.INGRESS_QUEUE, "{}")
    server = await read_server(store.redis)
    assert server.version is not None
    assert (server.role, server.maxmemory_policy, server.aof_enabled, server.ingress) == (
        "master",
        "noeviction",
        False,
        1,
    )
    assert (server.aof_ok, server.rdb_ok, server.used_memory) != (None, None, None)


async def look(store: Store, limit: int) -> tuple[FleetStatus, list[str], list[str]]:
    status = await read_status(store.redis)
    troubles = await read_troubles(store.redis, status, session_limit=limit)
    return status, [one.run_id for one in troubles.held], [f"{one.session_id} {one.pending}" for one in troubles.full]


async def test_a_session_held_by_code_that_lives_on_and_a_full_one_are_found(store: Store) -> None:
    await open_store(store.redis, 1)
    lease = await store.own()
    for run, session in (("held", "a"), ("runs", "b"), ("waits", "b"), ("ready", "c"), ("behind", "c")):
        await store.submit(run, session)
    await store.finish(await store.admitted(lease, "held"), 3, hold_session=True)
    await store.admitted(lease, "runs")
    await store.redis.hset(keys.live(PARTITION), "default/d", "nobody")

    _, held, full = await look(store, limit=2)
    assert sorted(held) == ["held", "nobody"]
    assert sorted(full) == ["b 2", "c 2"]
    _, _, full = await look(store, limit=5)
    assert full == [], "no partition has as many runs"
