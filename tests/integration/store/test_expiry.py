"""Every key has a TTL or a bound: each is in the catalogue (keys.LIVES) and lives as that says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from redis import Redis as BlockingRedis

from runtime_core.contracts.run import RunState
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission
from runtime_core.store.connection import connect_sync
from runtime_core.store.keys import Life
from runtime_core.store.scripts import run_script
from tests.integration.store.conftest import PARTITION
from tests.integration.store.world import READS, WRITES, World

PREFIX = keys.prefix(PARTITION)


@pytest.fixture
def blocking(redis_url: str) -> Iterator[BlockingRedis]:
    with connect_sync(redis_url) as client:
        yield client


async def violations(redis: Any) -> list[str]:
    """Keys that live otherwise than the catalogue says, each with what is wrong."""
    found: list[str] = []
    async for key in redis.scan_iter(count=1000):
        ttl = await redis.ttl(key)
        match keys.life_of(key):
            case None:
                found.append(f"{key}: not in the catalogue")
            case Life.TTL if ttl < 0:
                found.append(f"{key}: has no TTL")
            case Life.RUN:
                run = ScopedRunId(key.rpartition(":")[2])
                finished = await is_finished(redis, run)
                if finished != (ttl > 0):
                    found.append(f"{key}: TTL {ttl}, and its run is {'' if finished else 'un'}finished")
            case Life.UNFINISHED if over := [run for run in await runs_in(redis, key) if await is_finished(redis, run)]:
                found.append(f"{key}: {over} are finished")
            case Life.UNFINISHED | Life.STORE | Life.TRIMMED if ttl > 0:
                found.append(f"{key}: would be lost in {ttl} s")
            case Life.STORE if await redis.type(key) == "hash" and await redis.hlen(key) > 6:
                found.append(f"{key}: is no small hash")
            case _:
                pass
    return found


async def is_finished(redis: Any, run: str) -> bool:
    return await redis.hget(keys.run(PARTITION, ScopedRunId(run)), "state") == RunState.FINISHED


async def runs_in(redis: Any, key: str) -> list[str]:
    """The runs that a key of unfinished ones names. Not those of live (their code may run on) nor of cascades."""
    match key.removeprefix(PREFIX).partition(":")[0]:
        case "deadlines":
            return await redis.zrange(key, 0, -1)
        case "cancels":
            return sorted(await redis.smembers(key))
        case "mailbox":
            return await redis.lrange(key, 0, -1)
        case "staged":
            return [key.rpartition(":")[2]]
        case _:
            return []


async def standing(redis: Any, life: Life) -> list[str]:
    return sorted([key async for key in redis.scan_iter(count=1000) if keys.life_of(key) is life])


async def end_all(world: World) -> None:
    """Workers go on until every run is finished."""
    lease = await world.take_over(world.lease, "w9")
    while ready := await world.redis.zrange(f"{PREFIX}ready", 0, -1):
        for session in ready:
            head = await world.redis.lindex(f"{PREFIX}mailbox:{session}", 0)
            admission = await world.admit(lease, head)
            if isinstance(admission, Admission):
                await world.finish(admission, admission.sequence + 1)
    for run in (await world.sweep(lease)).cascades:
        await world.runs.cancel(run)
    await world.redis.delete(keys.queue(PARTITION))  # doorbells of finished runs: a worker takes them as they come


@pytest.mark.parametrize("name", WRITES | READS)
async def test_whatever_a_verb_leaves_behind_has_an_end(redis: Any, blocking: BlockingRedis, name: str) -> None:
    verb: Callable[[World], Awaitable[Any]] = (WRITES | READS)[name]
    world = await World(redis, blocking).build()
    await verb(world)
    assert await violations(redis) == []


async def test_when_all_runs_are_finished_only_what_has_an_end_is_left(redis: Any, blocking: BlockingRedis) -> None:
    world = await World(redis, blocking).build()
    await run_script(redis, "cancel", PARTITION, world.cancelled.run)
    for name in ("submit", "submit many", "append", "stage", "step", "redrive", "refuse"):
        await WRITES[name](world)
    stood = set(map(keys.life_of, await redis.keys()))
    assert stood >= {Life.STORE, Life.RUN, Life.UNFINISHED, Life.TTL, Life.TRIMMED}

    await end_all(world)

    assert await standing(redis, Life.UNFINISHED) == []
    assert await violations(redis) == []
    assert await redis.hget(f"{PREFIX}stats", "pending") == "0"
    assert len(await standing(redis, Life.STORE)) == 3 + 2, "meta, pulse, config, and lease and stats of one partition"


async def test_the_catalogue_has_no_key_that_no_script_makes(redis: Any, blocking: BlockingRedis) -> None:
    met: set[str] = set()
    for verb in WRITES.values():
        await redis.flushall()
        world = await World(redis, blocking).build()
        await run_script(redis, "cancel", PARTITION, world.cancelled.run)  # its client died before it told the children
        met.update(await redis.keys())
        await verb(world)
        met.update(await redis.keys())
    ours = {pattern for pattern, life in keys.LIVES.items() if life is not Life.CELERY}
    unmet = {pattern for pattern in ours if not any(fnmatchcase(key, pattern) for key in met)}
    assert not unmet


async def test_a_key_that_the_catalogue_does_not_know_is_named(redis: Any, blocking: BlockingRedis) -> None:
    world = await World(redis, blocking).build()
    await redis.set("rl:stray", "1")
    await redis.persist(f"{PREFIX}session:default/held:meta")
    await redis.persist(keys.run(PARTITION, world.held.run))
    await redis.expire(keys.run(PARTITION, world.running.run), 60)
    named = {line.rpartition(": ")[0] for line in await violations(redis)}
    assert named == {
        "rl:stray",
        f"{PREFIX}session:default/held:meta",
        keys.run(PARTITION, world.held.run),
        keys.run(PARTITION, world.running.run),
    }


@pytest.mark.parametrize(("number", "days", "at_most"), [(12_000, 1, 10_100), (300, 31, 100)])
async def test_dead_letters_are_trimmed_to_a_number_and_an_age(
    redis: Any, blocking: BlockingRedis, number: int, days: int, at_most: int
) -> None:
    dead = keys.dead(PARTITION)
    now, _ = await redis.time()
    pipeline = redis.pipeline(transaction=False)
    for count in range(1, number + 1):
        entry = f"{(now - days * 24 * 3600) * 1000}-{count}"
        pipeline.xadd(dead, {"run": f"r{count}", "session": "default/s"}, id=entry)
    await pipeline.execute()
    await World(redis, blocking).build()
    assert await redis.xlen(dead) <= at_most, "Redis trims whole nodes of 100"
    ((_, newest),) = await redis.xrevrange(dead, count=1)
    assert newest["run"] == "dead"


async def test_workers_are_forgotten(redis: Any, blocking: BlockingRedis) -> None:
    world = await World(redis, blocking).build()
    now, _ = await redis.time()
    for known in (keys.WORKERS, keys.MEMBERS):
        await redis.zadd(known, {"gone": (now - 61) * 1000, "late": (now - 59) * 1000})
    await world.leases.heartbeat("w2", {}, accepting=True)
    for known in (keys.WORKERS, keys.MEMBERS):
        assert await redis.zrange(known, 0, -1) == ["late", "w1", "w2"]


async def test_a_dead_letter_that_expired_while_it_was_redriven_stays_gone(redis: Any, blocking: BlockingRedis) -> None:
    await World(redis, blocking).build()
    assert (await run_script(redis, "redriven", PARTITION, "expired", "again"))[0] == "GONE"
    assert not await redis.exists(keys.run(PARTITION, ScopedRunId("expired")))
