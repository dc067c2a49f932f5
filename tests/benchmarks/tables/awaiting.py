"""Thousands of runs that wait at once in one worker process: time and memory."""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness import usage
from tests.benchmarks.harness.figures import Ratio, Single, at_most
from tests.benchmarks.harness.systems import PEERS, Runlane, Stage
from tests.benchmarks.harness.table import Case, Scale, Table

_MANY, _QUICK = 10_000, 500
_WITHIN_S = 90.0


def _ours(scale: Scale) -> Mapping[str, float]:
    runs = scale.count(2_000, _QUICK)
    with Runlane(NO_OP, concurrency=runs).stage() as stage:
        return _sleep(stage, runs, sessions=runs)


def _crowd(scale: Scale) -> Mapping[str, float]:
    runs = scale.count(_MANY, _QUICK)
    with Runlane(NO_OP, concurrency=runs).stage() as stage:
        found = _sleep(stage, runs, sessions=runs)
    return {"wall, 10,000": found["wall"], "peak, 10,000": found["peak"], "each, 10,000": found["each"]}


def _raw(scale: Scale) -> Mapping[str, float]:
    runs = scale.count(2_000, _QUICK)
    with PEERS["raw"].stage(slots=runs) as stage:
        return _sleep(stage, runs)


def _sleep(stage: Stage, runs: int, **more: int) -> Mapping[str, float]:
    """Each run is of a session of its own: those of one session wait for each other."""
    stage.warm_up(many=True)
    worker = stage.workers[0]
    before = usage.resident_bytes(worker)
    usage.reset_peak(worker)
    found = stage.caller.ask("throughput", job="sleep", count=runs, many=True, within_s=_WITHIN_S, **more)
    peak = usage.peak_bytes(worker)
    return {"wall": found["seconds"], "each": (peak - before) / runs / 1024, "peak": peak / 1024**2}


TABLE = Table(
    name="awaiting",
    title="awaiting: runs that await one second, all at once in one worker process",
    note="Memory is the worker's peak resident set: minus that before, by the runs, or as it is. "
    "10,000 runs are measured once.",
    units={
        "wall": "s",
        "each": "KiB/run",
        "peak": "MiB",
        "wall, 10,000": "s",
        "peak, 10,000": "MiB",
        "each, 10,000": "KiB/run",
    },
    cases=[
        Case(system="Runlane", measure=_ours),
        Case(system="raw", measure=_raw),
        Case(system="Runlane, 10,000 runs", measure=_crowd, most_rounds=1),
    ],
    comparisons=[
        Ratio(label="2,000 runs, wall time", measure="wall", ours="Runlane", peer="raw", bound=at_most(2.5)),
        Single(label="memory per waiting run", measure="each", ours="Runlane", bound=at_most(30)),
        Single(
            label="10,000 runs, peak memory",
            measure="peak, 10,000",
            ours="Runlane, 10,000 runs",
            bound=at_most(400),
        ),
        Ratio(label="memory per waiting run", measure="each", ours="Runlane", peer="raw"),
        Single(label="10,000 runs, wall time", measure="wall, 10,000", ours="Runlane, 10,000 runs"),
    ],
)
