"""The scenarios by the name that the command line knows them by."""

from __future__ import annotations

from tests.chaos.scenarios.cancels import cancels
from tests.chaos.scenarios.frame import Options, Scenario
from tests.chaos.scenarios.memory import memory
from tests.chaos.scenarios.poison import poison
from tests.chaos.scenarios.rolling import rolling
from tests.chaos.scenarios.scaling import scaling
from tests.chaos.scenarios.scheduled import kills, mixed, outages, scheduled

SCENARIOS: dict[str, Scenario] = {
    "mix": scheduled("mix", mixed),
    "short": scheduled("short", mixed),
    "kills": scheduled("kills", kills),
    "stops": scheduled("stops", mixed),
    "rolling": rolling,
    "poison": poison,
    "cancels": cancels,
    "scaling": scaling,
    "outages": scheduled("outages", outages),
    "memory": memory,
}

__all__ = ["SCENARIOS", "Options"]
