"""What a scrape reads of queues and mailboxes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from runtime_core.embedded import EmbeddedRedis
from runtime_core.store import keys
from runtime_core.store.connection import RETRYABLE, connect_sync
from tests.integration.store.conftest import PARTITION, Store
from workers.monitoring.queues import PartitionDepth, read_queues


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect_sync(redis_url) as client:
        yield client


async def test_runs_wait_from_their_submit_until_they_start(store: Store, client: redis.Redis) -> None:
    lease = await store.own()
    for run, session in (("r1", "a"), ("r2", "a"), ("r3", "b")):
        await store.submit(run, session)
    await store.admitted(lease, "r1")
    minute_ago = (await store.runs.get(await store.submit("r3", "b"))).submitted_ms - 60_000
    await store.redis.hset("rl:{p0000}:run:r3", "submitted_ms", minute_ago)
    await store.redis.rpush(keys.INGRESS_QUEUE, "a submission")

    queues = read_queues(client, [PARTITION])

    assert queues.ingress == 1
    depth = queues.partitions[PARTITION]
    assert (depth.pending, depth.waiting_sessions, depth.doorbells) == (3, 1, 2)
    assert 60 <= depth.oldest_wait_s < 70
    await store.admitted(lease, "r3")
    assert read_queues(client, [PARTITION]).partitions[PARTITION].oldest_wait_s == 0


async def test_a_dead_letter_is_counted_once_whoever_owns_its_partition(store: Store, client: redis.Redis) -> None:
    lease = await store.own("w0")
    for run in ("r1", "r2"):
        await store.submit(run, run)
        for number in range(1, 6):
            await store.admitted(lease, run)
            lease = await store.take_over(lease, f"{run}.w{number}")
    await store.take_over(lease, "w9")

    assert read_queues(client, [PARTITION]).partitions[PARTITION].dead_letters == 2


async def test_a_partition_whose_keys_are_broken_is_left_out(store: Store, client: redis.Redis) -> None:
    await store.redis.set(keys.ready(1), "no sorted set")
    await store.redis.hset(keys.stats(2), "pending", "many")

    partitions = read_queues(client, [0, 1, 2]).partitions

    nothing = PartitionDepth(doorbells=0, pending=0, waiting_sessions=0, oldest_wait_s=0.0, dead_letters=0)
    assert partitions == {0: nothing, 2: nothing}


def test_a_redis_that_is_away_or_cannot_serve_is_told_from_an_empty_one() -> None:
    with EmbeddedRedis() as server, connect_sync(server.url, timeout=0.3) as client:
        assert read_queues(client, []).partitions == {}
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        client.config_set("replica-serve-stale-data", "no")
        with pytest.raises(RETRYABLE):
            read_queues(client, [0])
        server.stop()
        with pytest.raises(RETRYABLE):
            read_queues(client, [0])
