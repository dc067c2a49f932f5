"""The decisions behind ownership, without I/O: who takes what, when a lease is trusted, how long it stood still."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_core.clock import boot_seconds
from runtime_core.errors import LeaseLost
from runtime_core.ids import session_key
from runtime_core.partitioning import partition_of
from runtime_core.store.leases import FleetView, Lease, LeaseView
from runtime_core.store.timing import (
    LEASE_TTL_MS,
    LOOK_INTERVAL,
    RENEW_INTERVAL,
    SAFETY_MARGIN,
    WORKER_TTL_MS,
)
from workers.partitions.assignor import may_take, quota, wanted
from workers.partitions.observation import LeaseObservation
from workers.partitions.ownership import Ownership, valid_until

NOW = 1_000_000
FREE = LeaseView(partition=0, owner="", fence="1", expires_ms=0, reserved_for="", reserved_until_ms=0)


def fleet(owners: list[str], members: list[str]) -> FleetView:
    leases = [replace(FREE, partition=number, owner=owner, expires_ms=NOW + 1) for number, owner in enumerate(owners)]
    return FleetView(now_ms=NOW, members=dict.fromkeys(members, NOW + 1), leases=leases)


@given(partitions=st.integers(1, 1024), members=st.integers(1, 200))
def test_quotas_of_all_members_cover_every_partition(partitions: int, members: int) -> None:
    assert quota(partitions, members) * members >= partitions
    assert (quota(partitions, members) - 1) * members < partitions


@given(partitions=st.integers(1, 64), members=st.integers(1, 10), held=st.integers(0, 64))
def test_a_worker_takes_free_partitions_up_to_its_quota_and_none_of_others(
    partitions: int, members: int, held: int
) -> None:
    names = [f"w{number}" for number in range(members)]
    owners = ["w0#a" if number < held else "" for number in range(partitions)]
    mine = [number for number in range(partitions) if number < held]

    taken = wanted(fleet(owners, names), "w0", held=mine, unanswered=(), unchanged_for_ttl=())

    assert all(lease.owner == "" for lease in taken)
    assert len(taken) == max(0, min(quota(partitions, members) - len(mine), partitions - len(mine)))


def test_an_expired_lease_is_taken_only_after_it_stood_still_for_a_ttl() -> None:
    expired = replace(FREE, owner="w9#x", expires_ms=NOW)
    assert not may_take(expired, "w1", NOW, unchanged_for_ttl=False)
    assert may_take(expired, "w1", NOW, unchanged_for_ttl=True)
    assert not may_take(replace(expired, expires_ms=NOW + 1), "w1", NOW, unchanged_for_ttl=True)


def test_a_reserved_partition_is_left_to_its_member_until_the_reservation_ends() -> None:
    reserved = replace(FREE, reserved_for="w2", reserved_until_ms=NOW + 1)
    assert not may_take(reserved, "w1", NOW, unchanged_for_ttl=False)
    assert may_take(reserved, "w2", NOW, unchanged_for_ttl=False)
    assert may_take(reserved, "w1", NOW + 1, unchanged_for_ttl=False)


def test_a_lease_stands_still_only_while_redis_answers_and_nobody_renews() -> None:
    ttl = LEASE_TTL_MS / 1000
    observation = LeaseObservation()
    observation.note(fleet(["w9#x", "w9#x"], []), now=0.0)
    renewed = fleet(["w9#x", "w9#x"], [])
    renewed = replace(renewed, leases=[renewed.leases[0], replace(renewed.leases[1], expires_ms=NOW + 5)])
    observation.note(renewed, now=ttl / 2)

    assert observation.unchanged_for_ttl(ttl - 0.01) == frozenset()
    assert observation.unchanged_for_ttl(ttl) == {0}
    assert observation.unchanged_for_ttl(ttl * 1.5) == {0, 1}

    observation.forget()  # Redis did not answer
    observation.note(renewed, now=ttl * 2)
    assert observation.unchanged_for_ttl(ttl * 2.9) == frozenset()


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
