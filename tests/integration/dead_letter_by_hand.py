"""A dead letter, made by the real scripts: a run whose every worker dies of it."""

from __future__ import annotations

import itertools
from typing import Any

from redis.asyncio import Redis

from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, AttemptStore
from runtime_core.store.leases import LeaseStore
from runtime_core.store.runs import RunStore

_workers = itertools.count()


async def give_up(redis: Redis, run: str, partitions: int) -> int:
    """Let workers start ``run`` and die until it is given up on; returns how many died."""
    client: Any = redis
    scoped, leases = ScopedRunId(run), LeaseStore(redis)
    partition = await RunStore(redis, partitions).locate(scoped)
    for deaths in itertools.count():
        lease = await leases.acquire(partition, f"w{next(_workers)}#1")
        assert lease is not None
        admission = await AttemptStore(redis).admit(lease, scoped, nonce="1", config_version=1)
        if not isinstance(admission, Admission):
            await leases.release(lease)
            return deaths
        seconds, _ = await client.time()
        await client.hset(keys.lease(partition), "expires", 1)
        await client.hset(keys.PULSE, mapping={"since": 0, "last": seconds * 1000})
    raise AssertionError
