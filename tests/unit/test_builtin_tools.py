"""The builtin tools that touch no file."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.calc import CalcTool
from runtime_core.plugins.builtin.tool.current_time import CurrentTimeTool
from runtime_core.plugins.builtin.tool.json_parse import JsonParseTool
from runtime_core.plugins.builtin.tool.text_transform import TextTransformTool


async def refusal(tool: Any, params: Any) -> str:
    with pytest.raises(ToolValidationError) as caught:
        await tool.invoke(params, None)
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", 14),
        (" (1 + 2) * -3 ", -9),
        ("7 / 2", 3.5),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("2 ** 10", 1024),
        ("2 ** -1", 0.5),
        ("9 ** 0.5", 3.0),
        ("1.5e3 + 1", 1501.0),
        ("2 ** 3 ** 2", 512),
        ("(-1) ** 999999", -1),
        ("(-1) ** -1000000", 1.0),
        ("0 ** 100000", 0),
    ],
)
async def test_calc_computes(expression: str, result: float) -> None:
    assert await CalcTool().invoke({"expression": expression}, None) == {"expression": expression, "result": result}


@pytest.mark.parametrize(
    ("expression", "essential"),
    [
        ("9 ** 9 ** 9", "too large"),
        ("10 ** 5000", "too large"),
        ("(2 ** 4000) * (2 ** 4000)", "too large"),
        ("2 ** -99999999999", "too large"),
        ("9.9 ** 9999", "too large"),
        ("1e999", "too large"),
        ("(2 ** 4000) / 0.5", "too large"),
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("(-8) ** 0.5", "not real"),
        ("2 ^ 3", "write ** for a power"),
        ("__import__('os').system('id')", "not Call"),
        ("a + 1", "not Name"),
        ("'x' * 9", "not Constant"),
        ("True + 1", "not Constant"),
        ("1j", "not Constant"),
        ("[1][0]", "not Subscript"),
        ("1 +", "not an arithmetic expression"),
        ("(" * 240 + "1" + ")" * 240, "nested"),
        ("1" * 501, "at most 500 characters"),
        ("   ", "not an arithmetic expression"),
        ("1\0", "not an arithmetic expression"),
    ],
)
async def test_calc_refuses_at_once_what_is_not_small_arithmetic(expression: str, essential: str) -> None:
    begun = time.monotonic()

    message = await refusal(CalcTool(), {"expression": expression})

    assert essential in message
    assert time.monotonic() - begun < 1


async def test_a_model_learns_which_parameters_a_tool_takes() -> None:
    message = await refusal(CalcTool(), {"expresion": "1"})

    assert "expresion: unknown field" in message
    assert "Did you mean 'expression'?" in message
    assert "parameters: expression" in message
    assert "not an object" in await refusal(CalcTool(), "1 + 1")


async def test_current_time_knows_zones() -> None:
    answer = await CurrentTimeTool().invoke({"timezone": "Asia/Tokyo"}, None)

    assert datetime.fromisoformat(answer["iso"]).utcoffset() == timedelta(hours=9)
    assert abs(answer["timestamp"] - time.time()) < 60
    assert (await CurrentTimeTool().invoke({}, None))["timezone"] == "UTC"


@pytest.mark.parametrize("zone", ["Asia/Tokio", "../../etc/passwd", "/etc/localtime", "Asia", "", "a\0b"])
async def test_current_time_refuses_what_is_no_zone(zone: str) -> None:
    assert "unknown time zone" in await refusal(CurrentTimeTool(), {"timezone": zone})


async def test_current_time_suggests_the_zone_that_was_meant() -> None:
    assert "Did you mean 'Asia/Tokyo'?" in await refusal(CurrentTimeTool(), {"timezone": "Asia/Tokio"})


async def test_json_parse_returns_value_and_type() -> None:
    assert await JsonParseTool().invoke({"text": '{"a": [1, null]}'}, None) == {
        "parsed": {"a": [1, None]},
        "type": "dict",
    }


@pytest.mark.parametrize(
    ("text", "essential"),
    [
        ('{"a": 1,}', "line 1, column"),
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "not JSON"),
        ("1e999", "too large"),
        ("1" * 5000, "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("", "text"),
    ],
)
async def test_json_parse_says_what_is_wrong(text: str, essential: str) -> None:
    assert essential in await refusal(JsonParseTool(), {"text": text})


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("upper", " ADA LOVELACE "),
        ("lower", " ada lovelace "),
        ("title", " Ada Lovelace "),
        ("capitalize", " ada lovelace "),
        ("strip", "ada Lovelace"),
        ("reverse", " ecalevoL ada "),
    ],
)
async def test_text_transform(operation: str, result: str) -> None:
    answer = await TextTransformTool().invoke({"text": " ada Lovelace ", "operation": operation}, None)

    assert answer == {"original": " ada Lovelace ", "operation": operation, "result": result}


async def test_text_transform_names_its_operations() -> None:
    assert "'reverse'" in await refusal(TextTransformTool(), {"text": "x", "operation": "rot13"})
