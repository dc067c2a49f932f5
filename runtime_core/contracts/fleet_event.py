"""An event without a run, on the wire: what the channel ``rl:fleet`` carries. One JSON object with these fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class FleetEvent(BaseModel):
    """What happened to one worker as a whole, for example ``config.reloaded``."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    event: str
    #: Milliseconds since the epoch, by the clock of the worker.
    timestamp_ms: int
    worker: str
    #: Of the agents config that the worker has now.
    config_version: int
    payload: dict[str, Any] = Field(default_factory=dict)
