"""What time it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.zones import zone


class CurrentTimeParameters(Parameters):
    timezone: str = Field("UTC", max_length=64, description="IANA time zone, e.g. UTC or Europe/Rome")


class CurrentTimeTool(BuiltinTool[CurrentTimeParameters]):
    """``{"timezone": "Europe/Rome"}`` → ``{iso, timestamp, formatted, timezone}``; timestamp in seconds."""

    name = "current_time"
    description = "Return the current date and time in a time zone."
    Parameters = CurrentTimeParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        name = self.check(params).timezone
        now = datetime.now(zone(name, tool=self.name))
        return {
            "iso": now.isoformat(),
            "timestamp": now.timestamp(),
            "formatted": now.strftime("%Y-%m-%d %H:%M:%S"),
            "timezone": name,
        }
