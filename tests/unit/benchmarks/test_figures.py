"""What decides whether a goal was reached: a benchmark that says yes too easily would be worse than none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from tests.benchmarks.harness.figures import Bound, Ratio, Single, Spread, Verdict, at_least, at_most, outcome
from tests.benchmarks.harness.monitor import Counted
from tests.benchmarks.harness.report import as_json
from tests.benchmarks.harness.rounds import run_table
from tests.benchmarks.harness.table import Case, Scale, Table
from tests.benchmarks.tables.commands import per_run

_RATIO = Ratio(label="throughput", measure="runs", ours="ours", peer="peer", bound=at_least(1.0, 1.5))


def _rounds(*pairs: tuple[float, float]) -> list[Mapping[str, Mapping[str, float]]]:
    return [{"runs": {"ours": ours, "peer": peer}} for ours, peer in pairs]


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    # Given a machine that was busy in the second round, for both alike
    rounds = _rounds((100, 100), (10, 5), (300, 100))
    # Then the round counts with its own peer: the medians alone would say 100 / 100
    assert outcome(_RATIO, rounds).middle == 2.0


@pytest.mark.parametrize(
    ("bound", "value", "verdict"),
    [
        (at_least(1.0, 1.5), 0.99, Verdict.MISSED),
        (at_least(1.0, 1.5), 1.0, Verdict.REACHED),
        (at_least(1.0, 1.5), 1.5, Verdict.STRETCH),
        (at_most(1.2), 1.2, Verdict.REACHED),
        (at_most(1.2), 1.21, Verdict.MISSED),
    ],
)
def test_a_goal_is_reached_at_its_bound_and_missed_beyond_it(bound: Bound, value: float, verdict: Verdict) -> None:
    assert bound.judge(value) is verdict


def test_a_goal_whose_peer_was_never_measured_is_not_reached() -> None:
    rounds = [{"runs": {"ours": 100.0}}]
    assert outcome(_RATIO, rounds).verdict is Verdict.UNKNOWN


def test_small_numbers_reach_no_goal() -> None:
    assert outcome(_RATIO, _rounds((100, 10)), judged=False).verdict is Verdict.QUICK


def test_a_round_without_the_peer_is_left_out_of_the_median() -> None:
    rounds = [*_rounds((100, 100), (300, 100)), {"runs": {"ours": 9_000.0}}]
    assert outcome(_RATIO, rounds).values == [1.0, 3.0]


def test_a_peer_may_be_measured_by_another_name() -> None:
    compared = Ratio(label="", measure="many", ours="ours", peer="ours", peer_measure="one")
    assert compared.value({"many": {"ours": 30.0}, "one": {"ours": 10.0}}) == 3.0


def test_a_figure_alone_is_held_against_its_bound() -> None:
    alone = Single(label="", measure="peak", ours="ours", bound=at_most(400))
    assert (
        outcome(alone, [{"peak": {"ours": 390.0}}, {"peak": {"ours": 410.0}}, {"peak": {"ours": 405.0}}]).middle == 405
    )


def test_a_spread_is_the_largest_by_the_smallest_and_needs_every_system() -> None:
    flat = Spread(label="", measure="cost", systems=("1", "64", "256"), bound=at_most(1.3))
    assert flat.value({"cost": {"1": 2.0, "64": 3.0, "256": 2.5}}) == 1.5
    assert flat.value({"cost": {"1": 2.0, "64": 3.0}}) is None


def test_commands_of_a_run_are_those_that_an_idle_worker_does_not_send() -> None:
    # Given a worker that beats twice a second, and ten runs in three seconds
    idle = Counted(commands=Counter(beat=20), seconds=10.0)
    busy = Counted(commands=Counter(beat=6, submit=10, admit=20), seconds=3.0)
    # Then each run sent a submit and two admits
    found = per_run(busy, idle, runs=10)
    assert (found["all"], found["submit"], found["admit"]) == pytest.approx((3.0, 1.0, 2.0))


def _table(*cases: Case) -> Table:
    return Table(name="t", title="", note="", units={}, cases=cases, comparisons=[_RATIO])


def test_a_case_that_fails_is_told_and_loses_nobody_elses_figures() -> None:
    # Given a peer that does not start
    def broken(_: Scale) -> Mapping[str, float]:
        raise RuntimeError("no such package")

    table = _table(Case(system="ours", measure=lambda _: {"runs": 5.0}), Case(system="peer", measure=broken))
    # When two rounds are measured
    measured = run_table(table, 2, Scale())
    # Then the others' figures are there, and the failure is in the results
    assert measured.rounds == [{"runs": {"ours": 5.0}}] * 2
    assert measured.failures.keys() == {"peer, round 1", "peer, round 2"}
    assert "no such package" in as_json([measured], rounds=2, quick=False)["tables"]["t"]["failures"]["peer, round 1"]


def test_systems_take_turns_and_every_other_round_goes_backwards() -> None:
    order: list[str] = []

    def note(system: str) -> Case:
        def measure(_: Scale) -> Mapping[str, float]:
            order.append(system)
            return {}

        return Case(system=system, measure=measure)

    run_table(_table(note("a"), note("b")), 3, Scale())
    assert order == ["a", "b", "b", "a", "a", "b"]
