"""The assignor's promises, for fleets of 1 to 100 workers that come, go and act on stale readings."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_core.store.leases import FleetView, LeaseView
from runtime_core.store.timing import LEASE_TTL_MS, ORPHAN_MS, RESERVATION_MS, UNOWNED_MS
from workers.partitions.assignor import heir, heirs, holdings, is_orphan, may_take, quotas, to_give, wanted

NOW = 1_000_000_000

workers = st.sets(st.integers(0, 99).map("w{}".format), min_size=1, max_size=100)
partitions = st.integers(1, 128)


def lease(partition: int, owner: str = "", *, expires_ms: int = NOW + 5_000, fence: str = "7") -> LeaseView:
    return LeaseView(
        partition=partition,
        owner=f"{owner}#x" if owner else "",
        fence=fence,
        expires_ms=expires_ms if owner else 0,
        reserved_for="",
        reserved_until_ms=0,
    )


def fleet(members: set[str] | frozenset[str], owners: list[str], *, now_ms: int = NOW, since_ms: int = 0) -> FleetView:
    return FleetView(
        now_ms=now_ms,
        steady_since_ms=since_ms,
        members=frozenset(members),
        leases=[lease(number, owner) for number, owner in enumerate(owners)],
    )


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    """Some partitions owned by members, some by workers that are gone, some free, some kept for a member."""
    members = draw(workers)
    owner = st.sampled_from([*sorted(members), "gone", "", "kept"])
    owners = draw(st.lists(owner, min_size=1, max_size=128))
    view = fleet(members, ["" if name == "kept" else name for name in owners])
    kept_for = draw(st.sampled_from(sorted(members)))
    kept = [
        replace(one, reserved_for=kept_for, reserved_until_ms=NOW + RESERVATION_MS) if name == "kept" else one
        for one, name in zip(view.leases, owners, strict=True)
    ]
    return replace(view, leases=kept)


@given(workers, partitions, st.dictionaries(st.integers(0, 99).map("w{}".format), st.integers(0, 128)))
def test_balanced_quotas_differ_by_one_and_sum_to_all(members: set[str], count: int, holding: dict[str, int]) -> None:
    quota = quotas(members, holding, count)
    assert quota.keys() == members
    assert sum(quota.values()) == count
    assert max(quota.values()) - min(quota.values()) <= 1


@given(workers, partitions, st.dictionaries(st.integers(0, 99).map("w{}".format), st.integers(0, 128)))
def test_sticky_who_holds_more_has_no_smaller_quota(members: set[str], count: int, holding: dict[str, int]) -> None:
    quota = quotas(members, holding, count)
    for one in members:
        for other in members:
            if holding.get(one, 0) > holding.get(other, 0):
                assert quota[one] >= quota[other]


@given(fleets())
def test_minimal_only_the_surplus_is_given_away(view: FleetView) -> None:
    holding = holdings(view)
    quota = quotas(view.members, holding, len(view.leases))
    for worker in view.members:
        assert len(to_give(view, worker, holding[worker])) <= max(0, holding[worker] - quota[worker])


@given(fleets())
def test_agreed_nobody_is_given_more_than_it_lacks(view: FleetView) -> None:
    given_to = Counter(to for worker in view.members for to in to_give(view, worker, len(view.leases)))
    lacking = Counter(heirs(view))
    assert all(given_to[worker] <= lacking[worker] for worker in given_to)


@given(fleets())
def test_nobody_wants_what_is_held_or_kept_for_another(view: FleetView) -> None:
    for worker in view.members:
        held = [one.partition for one in view.leases if one.worker == worker]
        for one in wanted(view, worker, held=held):
            assert one.partition not in held
            assert may_take(one, worker, view)
            assert heir(one, view) in ("", worker)


@given(fleets())
def test_above_its_quota_a_worker_takes_orphans_only(view: FleetView) -> None:
    for worker in view.members:
        held = [one.partition for one in view.leases if one.worker == worker]
        quota = quotas(view.members, holdings(view), len(view.leases))[worker]
        taken = wanted(view, worker, held=held)
        others = [one for one in taken if heir(one, view) != worker]
        room = max(0, quota - len(held) - (len(taken) - len(others)))
        assert all(is_orphan(one, view) for one in others[room:])


@given(fleets())
def test_what_is_kept_for_a_worker_it_takes_whatever_its_quota_is(view: FleetView) -> None:
    """Nobody else may take it: it would stay ownerless until the reservation ends."""
    for worker in view.members:
        taken = wanted(view, worker, held=range(len(view.leases), 2 * len(view.leases)))
        kept = [one for one in view.leases if not one.owner and heir(one, view) == worker]
        assert taken[: len(kept)] == kept


@given(workers, partitions)
def test_nothing_stays_ownerless_each_look_takes_a_share_of_the_orphans(members: set[str], count: int) -> None:
    view = fleet(members, ["gone"] * count, now_ms=NOW + 5_000 + ORPHAN_MS)
    for worker in members:
        room = quotas(members, {}, count)[worker]
        assert len(wanted(view, worker, held=())) == room + math.ceil((count - room) / len(members))


@given(fleets())
def test_nothing_stays_ownerless_anyone_takes_an_orphan_after_twice_the_time(view: FleetView) -> None:
    later = replace(view, now_ms=NOW + 60_000)  # nobody has renewed or taken anything since
    for worker in view.members:
        held = [one.partition for one in view.leases if one.worker == worker]
        assert len(wanted(later, worker, held=held)) == len(view.leases) - len(held)


@given(st.integers(1, 32), st.data())
def test_what_is_kept_for_a_worker_and_what_it_took_unknowingly_come_first(count: int, data: st.DataObject) -> None:
    members = {f"w{number}" for number in range(count)}
    view = fleet(members, [""] * count)
    mine = data.draw(st.integers(0, count - 1))
    kept = replace(view.leases[mine], reserved_for="w0", reserved_until_ms=NOW + 1)
    taken = lease(mine, "w0")
    for one, unanswered in ((kept, frozenset[str]()), (taken, frozenset({taken.owner}))):
        leases = [one if other.partition == mine else other for other in view.leases]
        (first, *_) = wanted(replace(view, leases=leases), "w0", held=[], unanswered=unanswered)
        assert first == one


def test_workers_that_start_together_want_different_partitions() -> None:
    view = fleet({"w1", "w2", "w3", "w4"}, [""] * 64)
    chosen = {one.partition for worker in view.members for one in wanted(view, worker, held=[])}
    assert len(chosen) > 64 // 2


def test_a_lease_may_be_taken_when_it_lapsed_while_redis_answered() -> None:
    renewed = NOW - LEASE_TTL_MS
    lapsed = lease(0, "gone", expires_ms=NOW)
    view = fleet({"w1"}, ["gone"])
    assert may_take(lapsed, "w1", view)
    assert not may_take(replace(lapsed, expires_ms=NOW + 1), "w1", view)
    assert may_take(lapsed, "w1", replace(view, steady_since_ms=renewed))
    assert not may_take(lapsed, "w1", replace(view, steady_since_ms=renewed + 1))


def test_a_partition_that_nobody_takes_becomes_an_orphan() -> None:
    view = fleet({"w1"}, ["gone"], since_ms=NOW - 60_000)
    assert not is_orphan(lease(0, "gone", expires_ms=NOW - ORPHAN_MS + 1), view)
    assert is_orphan(lease(0, "gone", expires_ms=NOW - ORPHAN_MS), view)
    released = replace(lease(0), reserved_until_ms=NOW - ORPHAN_MS)
    assert is_orphan(released, view)
    assert not is_orphan(replace(released, reserved_until_ms=NOW - ORPHAN_MS + 1), view)
    never_owned = lease(0, fence="0")
    assert not is_orphan(never_owned, replace(view, steady_since_ms=NOW - UNOWNED_MS + 1))
    assert is_orphan(never_owned, replace(view, steady_since_ms=NOW - UNOWNED_MS))


def test_a_partition_is_kept_only_for_a_member() -> None:
    view = fleet({"w1", "w2"}, [""])
    kept = replace(view.leases[0], reserved_for="w2", reserved_until_ms=NOW + 1)
    assert heir(kept, view) == "w2"
    assert heir(kept, replace(view, members=frozenset({"w1"}))) == ""
    assert heir(replace(kept, reserved_until_ms=NOW), view) == ""


def test_a_worker_that_has_not_settled_takes_only_what_is_kept_for_it() -> None:
    view = fleet({"w1"}, ["", ""])
    kept = replace(view.leases[1], reserved_for="w1", reserved_until_ms=NOW + 1)
    view = replace(view, leases=[view.leases[0], kept])
    assert [one.partition for one in wanted(view, "w1", held=[], settled=False)] == [1]


def test_a_spare_takes_nothing_but_orphans() -> None:
    view = fleet({"w1", "w2", "w3"}, ["w1", "w2"])
    assert wanted(view, "w3", held=[]) == []
    assert to_give(view, "w1", 1) == []


class Fleet:
    """Leases and members on a clock of looks; workers act in random order, some of them on the last reading."""

    def __init__(self, count: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = NOW
        self.members: set[str] = set()
        self.leases = {number: lease(number, fence="0") for number in range(count)}
        self.moved = 0
        self._last = self._view()

    def owners(self) -> Mapping[int, str]:
        return {number: one.worker for number, one in self.leases.items()}

    def balanced(self) -> bool:
        count = Counter(self.owners().values())
        low, extra = divmod(len(self.leases), len(self.members))
        return set(count) <= self.members and all(low <= count[one] <= low + bool(extra) for one in self.members)

    def settle(self) -> None:
        """All readings from now on show the members of now: a worker that starts waits for that."""
        self._last = self._view()

    def look(self) -> None:
        """Every worker looks and acts once; half a second passes."""
        now = self._view()
        for worker in self.rng.sample(sorted(self.members), len(self.members)):
            self._act(worker, self._last if self.rng.random() < 0.3 else self._view())
        self._last = now
        self.now += 500

    def _view(self) -> FleetView:
        return FleetView(
            now_ms=self.now, steady_since_ms=NOW, members=frozenset(self.members), leases=list(self.leases.values())
        )

    def _act(self, worker: str, view: FleetView) -> None:
        held = [number for number, one in self.leases.items() if one.worker == worker]
        for one in held:  # every lease is renewed
            self.leases[one] = replace(self.leases[one], expires_ms=self.now + LEASE_TTL_MS)
        for number, to in zip(held, to_give(view, worker, len(held)), strict=False):
            kept = {"reserved_for": to, "reserved_until_ms": self.now + RESERVATION_MS}
            self.leases[number] = replace(lease(number), **kept)
            self.moved += 1
        held = [number for number, one in self.leases.items() if one.worker == worker]
        for one in wanted(view, worker, held=held):
            if may_take(self.leases[one.partition], worker, self._view()):
                self.leases[one.partition] = lease(one.partition, worker, expires_ms=self.now + LEASE_TTL_MS)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 64), st.lists(st.integers(1, 24), min_size=1, max_size=5), st.integers(0, 1_000_000))
def test_every_change_of_the_fleet_ends_in_balance_soon_and_moves_little(
    count: int, sizes: list[int], seed: int
) -> None:
    simulated = Fleet(count, seed)
    started = 0
    for size in sizes:
        before = simulated.owners()
        while len(simulated.members) < size:
            started += 1
            simulated.members.add(f"w{started}")
        while len(simulated.members) > size:
            simulated.members.discard(simulated.rng.choice(sorted(simulated.members)))
        simulated.settle()
        simulated.moved = 0
        looks = 0
        while not simulated.balanced():
            simulated.look()
            looks += 1
            assert looks <= 2 * (LEASE_TTL_MS + RESERVATION_MS + ORPHAN_MS) / 500, "not balanced in time"
        for _ in range(10):
            simulated.look()
        assert simulated.balanced(), "balance does not last"
        living = Counter(owner for owner in before.values() if owner in simulated.members)
        quota = quotas(simulated.members, living, count)
        surplus = sum(max(0, living[worker] - quota[worker]) for worker in simulated.members)
        assert simulated.moved <= surplus + count // 8 + 2, f"{simulated.moved} moved, {surplus} had to"


def test_a_lease_renewed_before_the_clock_went_back_may_be_taken_a_ttl_after_that() -> None:
    renewed_in_the_future = lease(0, "gone", expires_ms=NOW + 3_600_000)
    for steady_ms, expected in ((LEASE_TTL_MS - 1, False), (LEASE_TTL_MS, True)):
        view = replace(fleet({"w1"}, ["gone"], since_ms=NOW - steady_ms), leases=[renewed_in_the_future])
        assert may_take(renewed_in_the_future, "w1", view) is expected
