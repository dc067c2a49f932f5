"""Simple changes of a text."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import Field

from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters


class TextOperation(StrEnum):
    UPPER = "upper"
    LOWER = "lower"
    TITLE = "title"
    CAPITALIZE = "capitalize"
    STRIP = "strip"
    REVERSE = "reverse"


_FUNCTIONS: dict[TextOperation, Callable[[str], str]] = {
    TextOperation.UPPER: str.upper,
    TextOperation.LOWER: str.lower,
    TextOperation.TITLE: str.title,
    TextOperation.CAPITALIZE: str.capitalize,
    TextOperation.STRIP: str.strip,
    TextOperation.REVERSE: lambda text: text[::-1],
}


class TextTransformParameters(Parameters):
    text: str = Field(max_length=1_000_000, description="The text to change")
    operation: TextOperation = Field(TextOperation.LOWER, description="What to do with it")


class TextTransformTool(BuiltinTool[TextTransformParameters]):
    """``{"text": "abc", "operation": "upper"}`` → ``{"original": "abc", "operation": "upper", "result": "ABC"}``."""

    name = "text_transform"
    description = "Change a text: upper, lower, title, capitalize, strip or reverse."
    Parameters = TextTransformParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        return {
            "original": given.text,
            "operation": given.operation.value,
            "result": _FUNCTIONS[given.operation](given.text),
        }
