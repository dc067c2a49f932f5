"""Runs per second of one worker process, until every result is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tests.benchmarks.agents.configs import ECHO, NO_OP
from tests.benchmarks.harness.figures import Ratio, at_least
from tests.benchmarks.harness.systems import PEERS, Runlane
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

#: Measured with fewer jobs: at their pace as many as the others' would take most of the time.
_SLOW = frozenset({"celery solo", "celery threads"})
_SYNC, _ASYNC, _MANY = "Runlane Client", "Runlane AsyncClient", "Runlane submit_many"


def _count(scale: Scale, system: str = "") -> int:
    return scale.count(1_000 if system in _SLOW else 2_000, 200)


def _peer(system: str, scale: Scale, *, many: bool = False) -> Mapping[str, float]:
    with PEERS[system].stage() as stage:
        stage.warm_up()
        found = stage.throughput("noop", _count(scale, system), many=many)
    return {"no-op": found["per_s"], **_cpu(found)}


def _ours(calls: str, scale: Scale, *, many: bool = False) -> Mapping[str, float]:
    with Runlane(NO_OP, calls=calls).stage() as stage:
        stage.warm_up()
        found = stage.throughput("noop", _count(scale), many=many)
    figures = {"no-op": found["per_s"], **_cpu(found)}
    if many:
        return figures
    with Runlane(ECHO, calls=calls).stage() as stage:
        stage.warm_up("echo")
        echo = stage.throughput("echo", _count(scale))
    return {**figures, "Echo": echo["per_s"], "Echo worker CPU": echo["worker_ms"]}


def _cpu(found: Mapping[str, float]) -> dict[str, float]:
    return {"worker CPU": found["worker_ms"], "Redis CPU": found["redis_ms"], "caller CPU": found["caller_ms"]}


def _against(measure: str, label: str, ours: str, peer: str, *goal: float) -> Ratio:
    return Ratio(
        label=label,
        measure=measure,
        ours=ours,
        peer=peer,
        peer_measure="no-op",
        bound=at_least(*goal) if goal else None,
    )


TABLE = Table(
    name="throughput",
    title="throughput: runs per second of one worker process until every result is known",
    note="No-op runs of 100 sessions in turn, submitted one by one; ours with record, log, pub/sub, fence and Celery's "
    "events. Echo is the builtin agent without a model; it stands beside the peers' no-op. Each caller is as its "
    "library's users would write it, see peers/. Sync is compared with sync, async with async.",
    units={
        "no-op": "runs/s",
        "Echo": "runs/s",
        "worker CPU": "ms/run",
        "Redis CPU": "ms/run",
        "caller CPU": "ms/run",
        "Echo worker CPU": "ms/run",
    },
    cases=[
        Case(system=_SYNC, measure=partial(_ours, Runlane.SYNC)),
        *(Case(system=name, measure=partial(_peer, name)) for name in ("dramatiq", "celery solo", "celery threads")),
        Case(system=_ASYNC, measure=partial(_ours, Runlane.ASYNC)),
        *(Case(system=name, measure=partial(_peer, name)) for name in ("taskiq", "saq", "raw")),
        Case(system=_MANY, measure=partial(_ours, Runlane.ASYNC, many=True)),
        Case(system="raw pipelined", measure=partial(_peer, "raw", many=True)),
    ],
    comparisons=[
        _against("no-op", "no-op, sync", _SYNC, "dramatiq", 1.0, 1.5),
        _against("no-op", "no-op, sync", _SYNC, "celery solo", 2.0),
        _against("no-op", "no-op, sync", _SYNC, "celery threads"),
        _against("no-op", "no-op, async", _ASYNC, "taskiq"),
        _against("no-op", "no-op, async", _ASYNC, "saq"),
        _against("no-op", "no-op, async", _ASYNC, "raw"),
        _against("no-op", "no-op, many at once", _MANY, "raw pipelined"),
        _against("Echo", "Echo, sync", _SYNC, "dramatiq"),
        _against("Echo", "Echo, sync", _SYNC, "celery solo"),
        _against("Echo", "Echo, async", _ASYNC, "taskiq"),
        Ratio(label="worker's CPU per run", measure="worker CPU", ours=_SYNC, peer="dramatiq"),
        Ratio(label="worker's CPU per run", measure="worker CPU", ours=_SYNC, peer="celery solo"),
        Ratio(label="Redis' CPU per run", measure="Redis CPU", ours=_SYNC, peer="dramatiq"),
    ],
    chart=Chart(
        measures=["no-op"],
        systems=[_SYNC, "dramatiq", "celery solo", "celery threads", _ASYNC, "taskiq", "saq", "raw", _MANY],
    ),
)
