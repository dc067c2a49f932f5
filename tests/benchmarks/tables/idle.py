"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Mapping

from runtime_core.partitioning import DEFAULT_PARTITIONS
from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness import usage
from tests.benchmarks.harness.figures import Single, at_most
from tests.benchmarks.harness.systems import Runlane
from tests.benchmarks.harness.table import Case, Scale, Table

#: Seconds from the last run until the worker counts as idle.
_SETTLE_S = 2.0


def _measure(scale: Scale) -> Mapping[str, float]:
    with Runlane(NO_OP).stage() as stage:
        stage.warm_up()
        time.sleep(_SETTLE_S)
        seconds = scale.count(20, 5)
        worker, server = usage.cpu_s(stage.workers), usage.cpu_s([stage.redis.pid])
        time.sleep(seconds)
        return {
            "worker": (usage.cpu_s(stage.workers) - worker) / seconds * 100,
            "Redis": (usage.cpu_s([stage.redis.pid]) - server) / seconds * 100,
            "worker's memory": usage.resident_bytes(stage.workers[0]) / 1024**2,
        }


TABLE = Table(
    name="idle",
    title=f"idle: CPU of a worker that holds {DEFAULT_PARTITIONS} partitions and has no run",
    note="It renews its leases, sweeps its partitions, beats, and waits for doorbells. Over 20 s.",
    units={"worker": "% of a core", "Redis": "% of a core", "worker's memory": "MiB"},
    cases=[Case(system="Runlane", measure=_measure)],
    comparisons=[
        Single(label="worker", measure="worker", ours="Runlane", bound=at_most(3)),
        Single(label="Redis", measure="Redis", ours="Runlane"),
    ],
    most_rounds=2,
)
