"""Figures of a history: what is measured and is no violation by itself. Pure."""

from __future__ import annotations

import math
import signal
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runtime_core.contracts.run import StopReason
from tests.chaos.checker import lost_while_stopped, started_past_guard
from tests.chaos.executions import Execution, executions
from tests.chaos.history import FaultKind, History, OwnerSeen


@dataclass(frozen=True, kw_only=True)
class Figures:
    runs: int
    faults: Counter[FaultKind]
    #: SIGKILLs that met a process while it executed a run.
    hits: int
    #: Seconds from the last death of a process that held the run's partition to the run's next start.
    recoveries: Sequence[float]
    #: Executions beyond the first of each run.
    repeated: int
    #: Effects of stopped processes, and starts, that were past their guard when their partition went to another.
    late_effects: int
    dead_letters: Sequence[str]
    #: Runs with a crash counted against them.
    crashed: Sequence[str]
    #: Workers that ended although nobody ended them.
    fallen: Sequence[str]
    #: Share of completed runs, beyond the first of each session, that found their session's plugins warm.
    warm: float | None


def measure(history: History) -> Figures:
    all_executions = executions(history)
    records = history.records
    asked = {fault.pid for fault in history.faults if fault.kind in (FaultKind.SIGKILL, FaultKind.SIGTERM)}
    kills = {fault.pid: fault.at for fault in history.faults if fault.kind is FaultKind.SIGKILL}
    hit = [one for one in all_executions if one.ended_by is None and one.start <= kills.get(one.pid, -1.0) <= one.end]
    return Figures(
        runs=len(history.submitted),
        faults=Counter(fault.kind for fault in history.faults),
        hits=len({one.pid for one in hit}),
        recoveries=recoveries(history, hit, all_executions),
        repeated=len(all_executions) - len({one.run for one in all_executions}),
        late_effects=_late_effects(history, all_executions),
        dead_letters=[run for run, record in records.items() if record.status is StopReason.DEAD_LETTER],
        crashed=[run for run, record in records.items() if record.crashes],
        # One that is asked to stop before it can hear it ends by the signal.
        fallen=[
            f"{one.worker} ({one.code})"
            for one in history.exits
            if one.pid not in asked and one.code not in (0, -signal.SIGTERM)
        ],
        warm=warm_share(history),
    )


def recoveries(history: History, hit: Sequence[Execution], all_executions: Sequence[Execution]) -> list[float]:
    """How long each execution that a SIGKILL met was interrupted; runs that never started again are left out."""
    holders = Holders(history.owners)
    partitions = {one.run: one.partition(history.partitions) for one in history.submitted}
    kills = [(fault.at, fault.worker) for fault in history.faults if fault.kind is FaultKind.SIGKILL and fault.worker]
    starts: defaultdict[str, list[float]] = defaultdict(list)
    for one in all_executions:
        starts[one.run].append(one.start)
    found: list[float] = []
    for one in hit:
        again = next((start for start in starts[one.run] if start > one.end), None)
        if again is not None:
            deaths = [
                at
                for at, worker in kills
                if one.end < at < again and holders.died_holding(partitions[one.run], worker, at)
            ]
            found.append(again - max([one.end, *deaths]))
    return found


class Holders:
    """Who held which partition when, as far as it was seen."""

    def __init__(self, owners: Sequence[OwnerSeen]) -> None:
        self._seen: defaultdict[int, list[OwnerSeen]] = defaultdict(list)
        for seen in owners:
            self._seen[seen.partition].append(seen)

    def died_holding(self, partition: int, worker: str, at: float) -> bool:
        """Whether a worker that was killed then held the partition.

        It may be seen a look after its death: what it took, it took before.
        """
        seen = self._seen[partition]
        followed = zip(seen, [*(one.at for one in seen[1:]), math.inf], strict=True)
        return any(one.worker == worker and until > at for one, until in followed)


def warm_share(history: History) -> float | None:
    hits: list[bool] = []
    served: set[str] = set()
    for submitted in history.submitted:
        record = history.records.get(submitted.run)
        if record is None or record.result is None or record.status is not StopReason.COMPLETED:
            continue
        if submitted.session in served:
            hits.append(bool(record.result.metadata.get("cache_hit")))
        served.add(submitted.session)
    return sum(hits) / len(hits) if hits else None


def _late_effects(history: History, all_executions: Sequence[Execution]) -> int:
    starts = sum(started_past_guard(history, one) for one in all_executions)
    return starts + sum(
        at > fault.at
        for fault in history.faults
        if fault.kind is FaultKind.SIGSTOP
        for one in all_executions
        if one.pid == fault.pid and one.start <= fault.at <= one.end and lost_while_stopped(history, one, fault)
        for at in one.effects
    )


def p50(values: Sequence[float]) -> float:
    return median(values) if values else 0.0
