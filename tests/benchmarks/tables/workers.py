"""What more worker processes give: everything for runs that wait, nothing lost for runs that do not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness.figures import Ratio, at_least
from tests.benchmarks.harness.systems import Runlane
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

_WORKERS = (1, 2, 4)
#: Runs that one worker executes at once, and the seconds that such a run awaits: 250 runs/s for each worker at best.
_SLOTS, _AWAITS = 50, "0.2"


def _name(workers: int) -> str:
    return f"{workers} worker{'s' * (workers > 1)}"


def _measure(workers: int, scale: Scale) -> Mapping[str, float]:
    count = scale.count(1_000, 300)
    with Runlane(NO_OP, workers=workers, concurrency=_SLOTS).stage() as stage:
        stage.warm_up(many=True)
        # A session for each run: those of one session would wait for each other.
        awaiting = stage.throughput(_AWAITS, count, many=True, sessions=count)
        busy = stage.throughput("noop", count, many=True)
    return {"awaiting": awaiting["per_s"], "no-op": busy["per_s"], "workers' CPU": busy["worker_ms"]}


TABLE = Table(
    name="workers",
    title="workers: runs per second of 1, 2 and 4 worker processes of 50 slots each, on this machine's cores",
    note="Runs that await 0.2 s are bound by slots until the cores are full; no-op runs are bound by the cores, of "
    "which the caller and Redis take their share. The goal is that more processes than cores cost little.",
    units={"awaiting": "runs/s", "no-op": "runs/s", "workers' CPU": "ms/run"},
    cases=[Case(system=_name(workers), measure=partial(_measure, workers)) for workers in _WORKERS],
    comparisons=[
        Ratio(label="no-op", measure="no-op", ours=_name(4), peer=_name(1), bound=at_least(0.8)),
        Ratio(label="awaiting", measure="awaiting", ours=_name(4), peer=_name(1), bound=at_least(0.8)),
        Ratio(label="awaiting", measure="awaiting", ours=_name(2), peer=_name(1)),
    ],
    chart=Chart(measures=["awaiting", "no-op"], systems=[_name(workers) for workers in _WORKERS]),
    most_rounds=3,
)
