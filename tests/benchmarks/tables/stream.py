"""Events of many runs at once, from the agent that emits them to the client: how late at a pace, how many at most."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median, quantiles

from tests.benchmarks.agents.configs import TALKER
from tests.benchmarks.harness.figures import Ratio, Single, at_least, at_most
from tests.benchmarks.harness.systems import RAW_STREAM, Runlane, Stage
from tests.benchmarks.harness.table import Case, Chart, Scale, Table

_RUNS, _RATE = 50, 40.0
#: Seconds from submit until they speak: all run and are followed by then.
_LEAD_S = 0.7
#: An unpaced one is over in less than a second.
_LAPS = 3


def _ours(scale: Scale) -> Mapping[str, float]:
    with Runlane(TALKER).stage() as stage:
        return _listen(stage, scale)


def _raw(scale: Scale) -> Mapping[str, float]:
    with RAW_STREAM.stage() as stage:
        return _listen(stage, scale)


def _listen(stage: Stage, scale: Scale) -> Mapping[str, float]:
    asked = {"runs": _RUNS, "lead_s": _LEAD_S}
    stage.caller.ask("talk", event="llm.delta", count=10, rate=_RATE, **asked)
    paced = stage.caller.ask("talk", event="llm.delta", count=scale.count(120, 40), rate=_RATE, **asked)["ms"]
    count = scale.count(200, 50)
    # Deltas of text that wait are joined, so these are another kind of event, of which each arrives.
    unpaced = [stage.caller.ask("talk", event="tool.delta", count=count, rate=0, **asked) for _ in range(_LAPS)]
    return {
        "paced p50": median(paced),
        "paced p99": quantiles(paced, n=100, method="inclusive")[98],
        "unpaced": _RUNS * count / median(lap["seconds"] for lap in unpaced),
    }


TABLE = Table(
    name="stream",
    title="stream: events of 50 runs at once, from one worker to one client process",
    note="Paced: 40 llm.delta events a second in each run, milliseconds from emit to the reader, beside one PUBLISH "
    "for each. Unpaced: 200 tool.delta events of each run as fast as they go, beside XADD and PUBLISH in pipelines, "
    "from the first to the last at the reader; the median of three. redis-py runs on uvloop.",
    units={"paced p50": "ms", "paced p99": "ms", "unpaced": "events/s"},
    cases=[Case(system="Runlane", measure=_ours), Case(system="raw", measure=_raw)],
    comparisons=[
        Ratio(label="paced, p50", measure="paced p50", ours="Runlane", peer="raw", bound=at_most(4)),
        Single(label="paced, p99", measure="paced p99", ours="Runlane", bound=at_most(10)),
        Ratio(label="paced, p99", measure="paced p99", ours="Runlane", peer="raw"),
        Ratio(label="unpaced", measure="unpaced", ours="Runlane", peer="raw", bound=at_least(0.5)),
    ],
    chart=Chart(measures=["paced p50", "paced p99", "unpaced"], systems=["Runlane", "raw"]),
)
