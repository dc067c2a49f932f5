"""Time zones by their IANA names, for the tools that take one."""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from runtime_core.errors import ToolValidationError
from runtime_core.suggestions import did_you_mean


def zone(name: str, *, tool: str) -> tzinfo:
    """The zone ``name``. Raises ToolValidationError with a near match if there is none."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # not found; a path that leaves the database; a directory
        raise ToolValidationError(
            f"unknown time zone {name!r}",
            hint=f"{did_you_mean(name, available_timezones())}Use an IANA name such as Europe/Rome, or UTC; "
            "zones other than UTC need the system's tzdata",
            tool_id=tool,
        ) from error
