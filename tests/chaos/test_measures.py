"""The figures that scenarios compare with their limits, from small histories."""

from __future__ import annotations

import pytest

from tests.chaos.history import History, OwnerSeen, Submitted
from tests.chaos.journal import Line, What
from tests.chaos.report import Measured
from tests.chaos.scenarios.rolling import first_admits, released
from tests.chaos.scenarios.scaling import moves


def owned(at: float, partition: int, worker: str) -> OwnerSeen:
    return OwnerSeen(at=at, partition=partition, worker=worker, fence=str(at))


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Measured(name="at its limit", value=2.0, at_most=2.0), True),
        (Measured(name="above", value=2.1, at_most=2.0), False),
        (Measured(name="below", value=1.0, at_least=2.0), False),
        (Measured(name="without limit", value=9.0), True),
    ],
)
def test_a_figure_beyond_its_limit_does_not_hold(figure: Measured, holds: bool) -> None:
    assert figure.holds is holds


def test_release_to_acquire_is_the_time_that_nobody_held_the_partition() -> None:
    history = History(
        partitions=2,
        owners=[
            owned(1.0, 0, ""),  # never owned: no release
            owned(2.0, 0, "w1"),
            owned(3.0, 0, ""),
            owned(3.5, 0, "w2"),
            owned(4.0, 1, "w1"),
            owned(5.0, 1, "w2"),
        ],
    )
    assert released(history) == [0.5, 0.0]


def test_first_admit_after_a_release_counts_only_runs_that_waited_for_it() -> None:
    def start(run: str, at: float) -> Line:
        return Line(what=What.START, run=run, session="s", attempt=1, pid=1, at=at)

    history = History(
        partitions=1,
        submitted=[Submitted(run=run, session="s", at=at) for run, at in (("a", 1.0), ("b", 2.9), ("c", 3.1))],
        journal=[start("a", 1.1), start("c", 3.2), start("b", 4.0)],
        owners=[owned(0.5, 0, "w1"), owned(3.0, 0, ""), owned(3.1, 0, "w2")],
    )
    assert first_admits(history) == [1.0]


def test_moves_are_compared_with_the_least_that_balance_needs() -> None:
    before = [owned(1.0, partition, "w1") for partition in range(4)]
    members = [(1.0, frozenset({"w1"})), (2.0, frozenset({"w1", "w2"}))]
    needed = [owned(3.0, 0, "w2"), owned(3.0, 1, "w2")]
    there_and_back = [owned(4.0, 1, "w1"), owned(5.0, 1, "w2")]

    assert moves([*before, *needed], len(before), members, 4) == (2, 2)
    assert moves([*before, *needed, *there_and_back], len(before), members, 4) == (4, 2)


def test_members_that_join_one_after_the_other_have_a_minimum_each() -> None:
    before = [owned(1.0, partition, "w1") for partition in range(4)]
    members = [(1.0, frozenset({"w1"})), (2.0, frozenset({"w1", "w2"})), (4.0, frozenset({"w1", "w2", "w3", "w4"}))]
    first = [owned(3.0, 0, "w2"), owned(3.0, 1, "w2")]
    then = [owned(5.0, 0, "w3"), owned(5.0, 2, "w4")]

    assert moves([*before, *first, *then], len(before), members, 4) == (4, 4)


def test_the_partitions_of_a_dead_member_have_to_move() -> None:
    before = [owned(1.0, partition, f"w{partition % 2}") for partition in range(4)]
    members = [(1.0, frozenset({"w0", "w1"})), (2.0, frozenset({"w0"}))]
    assert moves([*before, owned(8.0, 1, "w0"), owned(8.0, 3, "w0")], len(before), members, 4) == (2, 2)
