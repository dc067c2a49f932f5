"""Commands that clients send to Redis for a no-op run: submit, the worker's share, and reading the result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from tests.benchmarks.agents.configs import NO_OP
from tests.benchmarks.harness.figures import Single, at_most
from tests.benchmarks.harness.monitor import Counted, Monitor
from tests.benchmarks.harness.systems import Runlane
from tests.benchmarks.harness.table import Case, Scale, Table

_SINGLE, _LOAD = "one after the other", "many at once"
#: Names beyond those are the tail of what a worker does once in a while.
_SHOWN = 12


def _measure(verb: str, count: int, quick: int, scale: Scale) -> Mapping[str, float]:
    runs = scale.count(count, quick)
    with Runlane(NO_OP).stage() as stage, Monitor(stage.redis.port) as monitor:
        stage.warm_up()
        # What the worker sends in any case (renewals, sweeps, heartbeats, its polls) is no part of a run.
        with monitor.counting() as idle:
            time.sleep(scale.count(6, 2))
        with monitor.counting() as busy:
            stage.caller.ask(verb, job="noop", count=runs)
    return per_run(busy, idle, runs)


def per_run(busy: Counted, idle: Counted, runs: int) -> dict[str, float]:
    """Commands for each of the runs that made ``busy``; what would have been sent anyway is taken off."""
    share = busy.seconds / idle.seconds
    each = {name: (number - idle.commands[name] * share) / runs for name, number in busy.commands.items()}
    background = idle.commands.total() * share / runs
    largest = sorted(each, key=lambda name: -each[name])[:_SHOWN]
    found = {"all": busy.commands.total() / runs - background, "background": background}
    return found | {name: each[name] for name in largest}


TABLE = Table(
    name="commands",
    title="commands: sent to Redis by clients for each no-op run, from submit to the result at the caller",
    note="Counted by MONITOR without what scripts call; a poll that ends early because a run came counts for the run. "
    "The rate at which the same worker sends while it is idle is subtracted.",
    units={"all": "commands/run", "background": "commands/run"},
    cases=[
        Case(system=_SINGLE, measure=partial(_measure, "round_trips", 200, 50)),
        Case(system=_LOAD, measure=partial(_measure, "throughput", 1_000, 200)),
    ],
    comparisons=[
        Single(label="commands per run", measure="all", ours=_SINGLE, bound=at_most(8)),
        Single(label="commands per run", measure="all", ours=_LOAD, bound=at_most(8)),
    ],
    most_rounds=2,
)
