"""The renewal thread on a real Redis."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from runtime_core.clock import boot_seconds
from runtime_core.store import keys
from runtime_core.store.connection import connect_sync
from runtime_core.store.leases import LeaseStore
from runtime_core.store.timing import RENEW_INTERVAL
from tests.integration.fleet.conftest import wait_until
from workers.partitions.ownership import Ownership
from workers.partitions.renewal import Renewal


def _renewal(redis_url: str, ownership: Ownership, problem: Callable[[], str | None]) -> Renewal:
    return Renewal(
        connect_sync(redis_url),
        lambda: [ownership],
        problem=problem,
        on_tick=int,
        on_lost=print,
        on_cancel=print,
        on_woken=print,
    )


async def test_renewals_go_on_after_a_look_at_the_process_that_failed(redis: Redis, redis_url: str) -> None:
    lease = await LeaseStore(redis).acquire(0, "w#1")
    assert lease is not None
    ownership, looks = Ownership(lease, boot_seconds()), list[int]()
    until = ownership.until

    def problem() -> None:
        looks.append(len(looks))
        if len(looks) == 1:
            raise RuntimeError("the consumer is being replaced")

    renewal = _renewal(redis_url, ownership, problem)
    renewal.start()
    try:
        await wait_until(lambda: ownership.until > until, "the lease is renewed")
    finally:
        renewal.stop()
    assert len(looks) > 1


async def test_a_process_that_does_not_work_renews_nothing(redis: Redis, redis_url: str) -> None:
    lease = await LeaseStore(redis).acquire(0, "w#1")
    assert lease is not None
    ownership, looks = Ownership(lease, boot_seconds()), list[bool]()

    async def expires() -> int:
        return int(str(await redis.hget(keys.lease(0), "expires")))  # pyright: ignore[reportGeneralTypeIssues]

    def problem() -> str | None:
        looks.append(works)
        return None if works else "the test says so"

    works, granted, until = False, await expires(), ownership.until
    renewal = _renewal(redis_url, ownership, problem)
    renewal.start()
    try:
        await wait_until(lambda: len(looks) == 2, "it looked twice", seconds=3 * RENEW_INTERVAL)
        assert (await expires(), ownership.until) == (granted, until)
        works = True
        await wait_until(lambda: ownership.until > until, "the lease is renewed", seconds=3 * RENEW_INTERVAL)
        assert await expires() > granted
    finally:
        renewal.stop()
