"""How long until somebody who submits to an idle system sees that his run has begun."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median, quantiles

from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness.figures import Ratio, at_most
from tests.benchmarks.harness.systems import PEERS, Runlane
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

_OURS = "Runlane"


def _ours(scale: Scale) -> Mapping[str, float]:
    with Runlane(NO_OP).stage() as stage:
        stage.warm_up()
        return _points(stage.caller.ask("first_chunks", job="noop", count=scale.count(150, 30))["ms"])


def _celery(scale: Scale) -> Mapping[str, float]:
    with PEERS["celery solo"].stage() as stage:
        stage.warm_up()
        return _points(stage.caller.ask("round_trips", job="noop", count=scale.count(150, 30))["ms"])


def _points(values: list[float]) -> Mapping[str, float]:
    return {"p50": median(values), "p99": quantiles(values, n=100, method="inclusive")[98]}


TABLE = Table(
    name="first-chunk",
    title="first chunk: submit until run.started is at the client, idle system, one after the other",
    note="Celery has no stream: beside ours stands its whole round trip, delay().get() of a no-op task.",
    units={"p50": "ms", "p99": "ms"},
    cases=[Case(system=_OURS, measure=_ours), Case(system="celery solo", measure=_celery)],
    comparisons=[
        Ratio(label="p50", measure="p50", ours=_OURS, peer="celery solo", bound=at_most(1.2)),
        Ratio(label="p99", measure="p99", ours=_OURS, peer="celery solo"),
    ],
    chart=Chart(measures=["p50", "p99"], systems=[_OURS, "celery solo"]),
)
