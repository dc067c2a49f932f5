"""Heartbeats: who is there, who takes partitions, and since when Redis has answered them."""

from __future__ import annotations

import asyncio

import pytest

from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from tests.integration.store.conftest import Store

R1 = ScopedRunId("r1")
#: As in _prelude.lua.
RINGS_AT_ONCE = 500


async def test_heartbeats_keep_the_pulse_and_a_gap_starts_it_anew(store: Store) -> None:
    await store.leases.heartbeat("w1", {}, accepting=True)
    first = await store.leases.observe(1)
    await store.leases.heartbeat("w2", {}, accepting=True)
    assert (await store.leases.observe(1)).steady_since_ms == first.steady_since_ms
    await store.pulse(since_ago_ms=60_000, last_ago_ms=2_500)
    await store.leases.heartbeat("w1", {}, accepting=True)
    assert (await store.leases.observe(1)).steady_since_ms >= first.steady_since_ms


async def test_members_are_those_that_beat_and_accept(store: Store) -> None:
    for worker in ("w1", "w2", "w3"):
        await store.leases.heartbeat(worker, {"pid": "7"}, accepting=True)
    await store.redis.zadd(keys.MEMBERS, {"w2": 1, "long-gone": 1})
    await store.leases.heartbeat("w3", {"pid": "7"}, accepting=False)
    assert (await store.leases.observe(1)).members == {"w1"}
    assert await store.redis.zscore(keys.WORKERS, "w3") is not None
    await store.leases.heartbeat("w1", {"pid": "7"}, accepting=True)
    assert await store.redis.zscore(keys.MEMBERS, "long-gone") is None
    await store.leases.leave("w1")
    assert not (await store.leases.observe(1)).members


@pytest.mark.parametrize("key", [keys.PULSE, keys.MEMBERS, keys.WORKERS, keys.worker("w1")])
async def test_a_heartbeat_makes_anew_what_somebody_else_wrote_into_its_keys(store: Store, key: str) -> None:
    await store.redis.set(key, "junk")
    (trouble,) = await asyncio.gather(store.leases.heartbeat("w1", {}, accepting=True), return_exceptions=True)
    assert trouble is None
    assert (await store.leases.observe(1)).members == {"w1"}


async def test_a_pulse_that_is_no_number_proves_nothing(store: Store) -> None:
    await store.redis.hset(keys.PULSE, mapping={"since": "junk", "last": "junk"})
    (trouble,) = await asyncio.gather(store.leases.heartbeat("w1", {}, accepting=True), return_exceptions=True)
    assert trouble is None
    view = await store.leases.observe(1)
    assert 0 <= view.now_ms - view.steady_since_ms < 1_000
