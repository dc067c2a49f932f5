"""Functions as tools."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from runtime_core.errors import PluginLoadError, ToolValidationError
from runtime_core.plugins.function_tool import function_tool


def weather(
    city: Annotated[str, Field(description="Where")], unit: Literal["C", "F"] = "C", context: Any = None
) -> str:
    """Tell the weather."""
    return f"{city} {unit} {context}"


async def fetch(schema: str, _private: int = 1) -> str:
    return f"{schema}{_private}"


def test_the_signature_becomes_the_schema_without_the_context() -> None:
    parameters = function_tool(weather).describe()["parameters"]

    assert set(parameters["properties"]) == {"city", "unit"}
    assert parameters["properties"]["city"]["description"] == "Where"
    assert parameters["properties"]["unit"]["enum"] == ["C", "F"]
    assert parameters["required"] == ["city"]
    assert parameters["additionalProperties"] is False


def test_arguments_are_checked_and_the_context_is_handed_in() -> None:
    assert function_tool(weather).invoke({"city": "Rome"}, "here") == "Rome C here"


@pytest.mark.parametrize(
    ("params", "essentials"),
    [
        ({}, ["weather: city: required", "parameters: city, unit (optional)"]),
        ({"city": "Rome", "unit": "K"}, ["unit: ", "(value 'K')"]),
        ({"city": "Rome", "units": "C"}, ["units: unknown field", "Did you mean 'unit'?"]),
        ([1], ["the parameters are a list, not an object"]),
    ],
)
def test_bad_arguments_are_named(params: Any, essentials: list[str]) -> None:
    with pytest.raises(ToolValidationError) as caught:
        function_tool(weather).invoke(params, None)

    for essential in essentials:
        assert essential in str(caught.value)
    assert caught.value.context["tool_id"] == "weather"


async def test_a_coroutine_function_stays_one_and_may_use_any_parameter_name() -> None:
    tool = function_tool(fetch)

    assert inspect.iscoroutinefunction(tool.invoke)
    assert await tool.invoke({"schema": "s", "_private": 2}, None) == "s2"


def test_a_signature_that_json_cannot_express_is_refused() -> None:
    def variadic(*values: int) -> int:
        return sum(values)

    with pytest.raises(PluginLoadError, match="'values' has no name of its own"):
        function_tool(variadic)
    with pytest.raises(PluginLoadError, match="cannot be a tool"):
        function_tool(lambda x, /: x)
