"""The decisions behind ownership, without I/O: when a lease is trusted, and the times of the protocol."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_core.clock import boot_seconds
from runtime_core.errors import LeaseLost
from runtime_core.ids import session_key
from runtime_core.partitioning import partition_of
from runtime_core.store.leases import Lease
from runtime_core.store.timing import (
    LEASE_TTL_MS,
    LOOK_INTERVAL,
    RENEW_INTERVAL,
    SAFETY_MARGIN,
    WORKER_TTL_MS,
)
from workers.partitions.ownership import Ownership, valid_until


def test_a_lease_is_trusted_for_less_than_redis_keeps_it() -> None:
    sent = boot_seconds()
    assert valid_until(sent) == pytest.approx(sent + LEASE_TTL_MS / 1000 - SAFETY_MARGIN)
    assert not Ownership(Lease(0, "w#1", "1"), sent - LEASE_TTL_MS / 1000 + SAFETY_MARGIN).valid
    assert Ownership(Lease(0, "w#1", "1"), sent).admits


async def test_a_lapsed_lease_pauses_and_a_lost_one_ends() -> None:
    ownership = Ownership(Lease(0, "w#1", "1"), boot_seconds() - 60)
    waiting = asyncio.create_task(ownership.guard())
    assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
    ownership.until = boot_seconds() + 60
    async with asyncio.timeout(1):
        await waiting

    ownership.lost = True
    with pytest.raises(LeaseLost):
        await ownership.guard()


def test_a_frozen_partition_admits_nothing_but_its_runs_go_on() -> None:
    ownership = Ownership(Lease(0, "w#1", "1"), boot_seconds())
    ownership.frozen = True
    assert ownership.valid
    assert not ownership.admits


def test_times_obey_their_inequalities() -> None:
    assert RENEW_INTERVAL < LEASE_TTL_MS / 1000 / 3
    assert LEASE_TTL_MS / 1000 - SAFETY_MARGIN > 2 * RENEW_INTERVAL
    assert LOOK_INTERVAL < WORKER_TTL_MS / 1000 / 2
    assert 2 * LOOK_INTERVAL < 2


@given(tenant=st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True), session=st.text(min_size=1, max_size=40))
def test_a_session_always_falls_into_the_same_existing_partition(tenant: str, session: str) -> None:
    key = session_key(tenant, session)
    assert key.isascii()
    assert key.count("/") == 1
    assert 0 <= partition_of(key, 64) < 64
    assert partition_of(key, 64) == partition_of(key, 64)


def test_the_partition_of_a_session_never_changes_between_releases() -> None:
    assert [partition_of(session_key("default", name), 64) for name in ("s1", "s2", "Zoë")] == [14, 36, 18]
