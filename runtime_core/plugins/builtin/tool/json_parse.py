"""Text → the JSON value in it."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pydantic import Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters

#: Characters: about what a model's context holds anyway.
_MAX_LENGTH = 1_000_000


class JsonParseParameters(Parameters):
    text: str = Field(min_length=1, max_length=_MAX_LENGTH, description="The JSON text")


class JsonParseTool(BuiltinTool[JsonParseParameters]):
    """``{"text": "[1]"}`` → ``{"parsed": [1], "type": "list"}``. NaN and infinities are refused: JSON has none."""

    name = "json_parse"
    description = "Parse a JSON text and return the value in it with its type."
    Parameters = JsonParseParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        text = self.check(params).text
        try:
            value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except json.JSONDecodeError as error:
            raise _refusal(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except ValueError as error:
            raise _refusal(str(error)) from error
        except RecursionError as error:
            raise _refusal("it is nested too deeply") from error
        return {"parsed": value, "type": type(value).__name__}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _refusal(problem: str) -> ToolValidationError:
    return ToolValidationError(f"not JSON: {problem}", hint="correct the text and call again", tool_id="json_parse")
