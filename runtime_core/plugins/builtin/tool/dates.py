"""Dates that people write, and the time between two of them."""

from __future__ import annotations

from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any

from pydantic import Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.zones import zone

#: Tried in this order after ISO 8601: of a date such as 03/04/2025, the first number is the day.
_FORMATS = ("%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%B %d, %Y", "%b %d, %Y")
_ACCEPTED = "2025-01-31, 2025-01-31T18:00:00+01:00, 2025/01/31, 31/01/2025, 01/31/2025, January 31, 2025"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class TimeUnit(StrEnum):
    DAYS = "days"
    HOURS = "hours"
    MINUTES = "minutes"
    SECONDS = "seconds"


#: Seconds in each unit.
_SECONDS = {TimeUnit.DAYS: 86_400, TimeUnit.HOURS: 3_600, TimeUnit.MINUTES: 60, TimeUnit.SECONDS: 1}


class DateParseParameters(Parameters):
    date: str = Field(min_length=1, max_length=100, description=f"A date, with or without a time: {_ACCEPTED}")
    timezone: str = Field("UTC", max_length=64, description="IANA time zone of a date that names none")


class DateParseTool(BuiltinTool[DateParseParameters]):
    """``{"date": "31/01/2025"}`` → ``{parsed, timestamp, year, month, day, weekday}``; timestamp in seconds."""

    name = "date_parse"
    description = "Parse a date and return it in ISO 8601 with its parts and its weekday."
    Parameters = DateParseParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        date = _parse(given.date, zone(given.timezone, tool=self.name), tool=self.name)
        try:
            timestamp = date.timestamp()
        except OverflowError as error:  # the zone's offset leads out of the years 1 to 9999
            raise _refusal(given.date, self.name) from error
        return {
            "parsed": date.isoformat(),
            "timestamp": timestamp,
            "year": date.year,
            "month": date.month,
            "day": date.day,
            "weekday": _WEEKDAYS[date.weekday()],
        }


class DateDiffParameters(Parameters):
    date1: str = Field(min_length=1, max_length=100, description=f"A date: {_ACCEPTED}")
    date2: str = Field(min_length=1, max_length=100, description="Another date")
    unit: TimeUnit = Field(TimeUnit.DAYS, description="Unit of the result; days are whole days")


class DateDiffTool(BuiltinTool[DateDiffParameters]):
    """``{"date1": "2025-01-01", "date2": "2025-01-31"}`` → ``{"seconds": 2592000.0, "result": 30}``, never negative."""

    name = "date_diff"
    description = "Return how much time lies between two dates. Dates without a time zone are taken as UTC."
    Parameters = DateDiffParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        utc = zone("UTC", tool=self.name)
        difference = _parse(given.date1, utc, tool=self.name) - _parse(given.date2, utc, tool=self.name)
        seconds = abs(difference).total_seconds()
        whole_days = given.unit is TimeUnit.DAYS
        return {"seconds": seconds, "result": abs(difference).days if whole_days else seconds / _SECONDS[given.unit]}


def _parse(text: str, default_zone: tzinfo, *, tool: str) -> datetime:
    """``text`` with the zone that it names, else ``default_zone``."""
    stripped = text.strip()
    for parse in (datetime.fromisoformat, *(_parser(form) for form in _FORMATS)):
        try:
            date = parse(stripped)
        except ValueError:
            continue
        return date if date.tzinfo else date.replace(tzinfo=default_zone)
    raise _refusal(text, tool)


def _parser(form: str) -> Any:
    return lambda text: datetime.strptime(text, form)


def _refusal(text: str, tool: str) -> ToolValidationError:
    return ToolValidationError(f"{text!r} is no date that can be read", hint=f"write it as {_ACCEPTED}", tool_id=tool)
