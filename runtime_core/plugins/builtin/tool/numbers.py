"""Percentages, and figures of a list of numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters

Number = Annotated[float, Field(allow_inf_nan=False)]


class PercentageOperation(StrEnum):
    OF = "of"
    INCREASE = "increase"
    DECREASE = "decrease"


_PERCENTAGES: dict[PercentageOperation, Callable[[float, float], float]] = {
    PercentageOperation.OF: lambda value, percent: value * percent / 100,
    PercentageOperation.INCREASE: lambda value, percent: value + value * percent / 100,
    PercentageOperation.DECREASE: lambda value, percent: value - value * percent / 100,
}


class PercentageParameters(Parameters):
    value: Number = Field(description="The number to take the percentage of, or to change by it")
    percent: Number = Field(description="The percentage, e.g. 15 for 15 %")
    operation: PercentageOperation = Field(
        PercentageOperation.OF, description="of: that share of the value; increase, decrease: the value changed by it"
    )


class PercentageTool(BuiltinTool[PercentageParameters]):
    """``{"value": 200, "percent": 15}`` → ``{value, percent, operation, "result": 30.0}``."""

    name = "percentage"
    description = "Compute a percentage of a number, or a number increased or decreased by a percentage."
    Parameters = PercentageParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        result = _PERCENTAGES[given.operation](given.value, given.percent)
        return {
            "value": given.value,
            "percent": given.percent,
            "operation": given.operation.value,
            "result": _finite(result, self.name),
        }


class ListFigure(StrEnum):
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    AVG = "avg"
    MEDIAN = "median"


_FIGURES: dict[ListFigure, Callable[[list[float]], float]] = {
    ListFigure.MIN: min,
    ListFigure.MAX: max,
    ListFigure.SUM: math.fsum,
    ListFigure.AVG: statistics.fmean,
    ListFigure.MEDIAN: statistics.median,
}


def _split(value: Any) -> Any:
    """Models also write "1, 2, 3"."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class MinMaxParameters(Parameters):
    numbers: Annotated[list[Number], BeforeValidator(_split)] = Field(
        min_length=1, max_length=10_000, description="The numbers, as a list or as text with commas between them"
    )
    action: ListFigure = Field(ListFigure.MIN, description="What to compute of them")


class MinMaxTool(BuiltinTool[MinMaxParameters]):
    """``{"numbers": [3, 1, 2], "action": "max"}`` → ``{action, numbers, "result": 3.0}``."""

    name = "min_max"
    description = "Compute the minimum, maximum, sum, average or median of numbers."
    Parameters = MinMaxParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        try:
            result = _FIGURES[given.action](given.numbers)
        except OverflowError:
            result = math.inf
        return {"action": given.action.value, "numbers": given.numbers, "result": _finite(result, self.name)}


def _finite(result: float, tool: str) -> float:
    if not math.isfinite(result):
        raise ToolValidationError("the result is too large", hint="use smaller numbers", tool_id=tool)
    return result
