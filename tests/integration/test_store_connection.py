"""The connections of connect(): what redis-py does otherwise."""

from __future__ import annotations

import asyncio

from runtime_core.store.connection import connect


async def test_a_cancellation_is_never_lost_in_a_command(redis_url: str) -> None:
    """Each pass cancels one turn of the event loop later, through connecting, writing and reading."""
    cancelled = 0
    for turns in range(400):
        redis = connect(redis_url)
        task = asyncio.ensure_future(redis.set("key", "x" * 100_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait([task], timeout=5)
            assert task.cancelled(), f"lost after {turns} turns"
            cancelled += 1
        await redis.aclose()
    assert cancelled > 3
