"""Submits per second when no worker runs: what a service pays that only hands work over."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import median

from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness.figures import Ratio, at_least
from tests.benchmarks.harness.systems import PEERS, Runlane, caller
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

#: In one call of submit_many.
_MANY = 1_000
#: One is over in a moment.
_CALLS = 3
_SYNC, _ASYNC = "Runlane Client", "Runlane AsyncClient"


def _ours(calls: str, scale: Scale) -> Mapping[str, float]:
    count = scale.count(2_000, 300)
    with Runlane(NO_OP).idle() as (redis, _), caller(redis, calls) as process:
        process.ask("submits", job="noop", count=100)
        one = count / process.ask("submits", job="noop", count=count)["seconds"]
        many = [process.ask("submits", job="noop", count=_MANY, many=True)["seconds"] for _ in range(_CALLS)]
        return {"one by one": one, "1,000 in one call": _MANY / median(many)}


def _peer(system: str, scale: Scale) -> Mapping[str, float]:
    count = scale.count(2_000, 300)
    with PEERS[system].stage(worker=False) as stage:
        stage.caller.ask("submits", job="noop", count=100)
        return {"one by one": count / stage.caller.ask("submits", job="noop", count=count)["seconds"]}


def _many_over_one(system: str) -> Ratio:
    return Ratio(
        label=f"submit_many, {system.split()[1]}",
        measure="1,000 in one call",
        ours=system,
        peer=system,
        peer_measure="one by one",
        bound=at_least(3.0),
    )


TABLE = Table(
    name="submit",
    title="submit: submits per second without a worker",
    note="What is compared is one call after the other; submit_many is also compared with our own one by one.",
    units={"one by one": "submits/s", "1,000 in one call": "submits/s"},
    cases=[
        Case(system=_SYNC, measure=partial(_ours, Runlane.SYNC)),
        Case(system="dramatiq", measure=partial(_peer, "dramatiq")),
        Case(system=_ASYNC, measure=partial(_ours, Runlane.ASYNC)),
        *(Case(system=name, measure=partial(_peer, name)) for name in ("celery solo", "taskiq", "raw")),
    ],
    comparisons=[
        Ratio(label="sync", measure="one by one", ours=_SYNC, peer="dramatiq", bound=at_least(1.0)),
        Ratio(label="async", measure="one by one", ours=_ASYNC, peer="dramatiq", bound=at_least(1.0)),
        _many_over_one(_SYNC),
        _many_over_one(_ASYNC),
        Ratio(label="sync", measure="one by one", ours=_SYNC, peer="celery solo"),
        Ratio(label="async", measure="one by one", ours=_ASYNC, peer="taskiq"),
        Ratio(label="async", measure="one by one", ours=_ASYNC, peer="raw"),
    ],
    chart=Chart(measures=["one by one"], systems=[_SYNC, _ASYNC, "dramatiq", "celery solo", "taskiq", "raw"]),
)
