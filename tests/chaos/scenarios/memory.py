"""What stays in Redis of runs that finished long ago: nothing that grows with their number.

It is measured without workers and with an empty slow log. Both are part of Redis' figure for the dataset and several
times what is left of the runs: what connections hold (query buffers, blocking pops) moves by a third from second to
second, and the slow log keeps its last 128 commands with their arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from redis.asyncio import Redis

from runtime_core.store import keys
from tests.chaos.arena import Arena
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures
from tests.chaos.history import History
from tests.chaos.load import Planned, plan
from tests.chaos.report import Measured
from tests.chaos.scenarios.frame import Options, Outcome, adjusted, judge

_LOAD = Schedule(runs=20_000, sessions=2_000, seconds=(0.0, 0.0))
_WARM_UP = 1_000
#: Runs submitted at once; the next follow when these have ended.
_BATCH = 1_000
_BATCH_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.1
#: Looks at the dataset, a second apart, of which the least counts: Redis shrinks its tables little by little, and takes
#: a connection that is younger than a second for data.
_LOOKS = 5


async def memory(options: Options) -> Outcome:
    load = adjusted(_LOAD, options)
    async with Arena(options.folder, partitions=load.partitions, seed=options.seed, console=options.console) as arena:
        await arena.start(load.workers)
        runs = plan(arena.rng, sessions=load.sessions, seconds=load.seconds)
        await _serve(arena, list(islice(runs, _WARM_UP)))
        await arena.fleet.dismiss()
        await arena.collect(reread_streams=False)  # so that the same connections are open at both looks
        before = await _after_expiry(arena.lookout)
        arena.load.submitted.clear()  # what has expired cannot be judged
        await arena.start(load.workers)
        await _serve(arena, list(islice(runs, load.runs)))
        await arena.fleet.dismiss()
        full = await _dataset(arena.lookout)
        history = await arena.collect(reread_streams=False)
        after = await _after_expiry(arena.lookout)
        left = await arena.lookout.dbsize()

        def measured(_: History, figures: Figures) -> list[Measured]:
            return [
                Measured(name="dataset after the warm-up, expired", value=before, unit=" B"),
                Measured(name="dataset with all runs", value=full, unit=" B"),
                Measured(name="dataset at the end, expired", value=after, unit=" B", at_most=round(before * 1.1)),
                Measured(name="keys at the end", value=left),
            ]

        return await judge("memory", options, arena, measured, history=history)


async def _serve(arena: Arena, runs: Sequence[Planned]) -> None:
    """Submit, batch by batch, and wait until all have ended."""
    for start in range(0, len(runs), _BATCH):
        await arena.load.submit_all(runs[start : start + _BATCH])
        async with asyncio.timeout(_BATCH_WITHIN_S):
            while await _pending(arena.lookout, arena.partitions):
                await asyncio.sleep(_LOOK_EVERY_S)


async def _pending(redis: Redis, partitions: int) -> int:
    pipeline = redis.pipeline(transaction=False)
    for partition in range(partitions):
        pipeline.hget(f"{keys.prefix(partition)}stats", "pending")
    return sum(int(pending or 0) for pending in await pipeline.execute())


async def _after_expiry(redis: Redis) -> int:
    """The dataset's bytes once every key that has a time to live has reached its end: hours, here at once."""
    found = [key async for key in redis.scan_iter(count=1_000)]
    pipeline = redis.pipeline(transaction=False)
    for key in found:
        pipeline.pttl(key)
    mortal = [key for key, left in zip(found, await pipeline.execute(), strict=True) if left >= 0]
    for key in mortal:
        pipeline.pexpire(key, 0)
    await pipeline.execute()
    await redis.slowlog_reset()
    return await _dataset(redis)


async def _dataset(redis: Redis) -> int:
    looks: list[int] = []
    for _ in range(_LOOKS):
        await asyncio.sleep(1.0)
        looks.append(int((await redis.info("memory"))["used_memory_dataset"]))
    return min(looks)
