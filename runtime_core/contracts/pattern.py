"""What a pattern may decide without its model. The shapes are those of the openagents SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FollowupResolution:
    """``status`` is ``resolved`` if ``output`` answers the run, and anything else if the model is to be asked."""

    status: str = "abstain"
    output: Any = None
    reason: str = ""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class ResponseRepairDecision:
    """``status`` is ``repaired`` if ``output`` takes the place of a model's empty answer."""

    status: str = "abstain"
    output: str = ""
    reason: str = ""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
