"""What time it is."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.suggestions import did_you_mean


class CurrentTimeParameters(Parameters):
    timezone: str = Field("UTC", max_length=64, description="IANA time zone, e.g. UTC or Europe/Rome")


class CurrentTimeTool(BuiltinTool[CurrentTimeParameters]):
    """``{"timezone": "Europe/Rome"}`` → ``{iso, timestamp, formatted, timezone}``; timestamp in seconds."""

    name = "current_time"
    description = "Return the current date and time in a time zone."
    Parameters = CurrentTimeParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        name = self.check(params).timezone
        now = datetime.now(_zone(name))
        return {
            "iso": now.isoformat(),
            "timestamp": now.timestamp(),
            "formatted": now.strftime("%Y-%m-%d %H:%M:%S"),
            "timezone": name,
        }


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # not found; a path that leaves the database; a directory
        raise ToolValidationError(
            f"unknown time zone {name!r}",
            hint=f"{did_you_mean(name, available_timezones())}Use an IANA name such as Europe/Rome, or UTC; "
            "zones other than UTC need the system's tzdata",
            tool_id="current_time",
        ) from error
