"""The offline model answers the same every time."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.llm.mock import MockClient
from runtime_core.llm.protocol import LLMRequest, LLMResponse, TextDelta


def function(name: str, *required: str, **properties: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return {"type": "function", "function": {"name": name, "parameters": schema | {"required": list(required)}}}


def asking(text: str, *tools: dict[str, Any]) -> LLMRequest:
    return LLMRequest(messages=[{"role": "user", "content": text}], tools=list(tools))


async def answer(request: LLMRequest) -> tuple[list[str], LLMResponse]:
    *deltas, response = [part async for part in MockClient().stream(request)]
    assert isinstance(response, LLMResponse)
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], response


async def test_text_is_echoed_word_by_word_and_whole() -> None:
    deltas, response = await answer(asking("two  words"))

    assert deltas == ["Echo: ", "two  ", "words ", "(history=0)"]
    assert response.output_text == "".join(deltas)
    assert response.usage.output_tokens > 0


async def test_earlier_exchanges_are_counted() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]

    assert (await answer(LLMRequest(messages=messages)))[1].output_text == "Echo: c (history=1)"


@pytest.mark.parametrize(
    ("tool", "query", "arguments"),
    [
        (function("t", "expression", expression="string"), "1 + 2", {"expression": "1 + 2"}),
        (function("t", path="string", limit="integer"), "a.txt", {"path": "a.txt"}),
        (function("t", "path", path="string", query="string"), "x", {"query": "x"}),
        (function("t", limit="integer", path="string"), "a.txt", {"path": "a.txt"}),
        (function("t", path="string"), "", {}),
        (function("t"), "x", {"query": "x"}),
        (function("t", "a", "b", a="string", b="string"), '{"a": "1", "b": "2"}', {"a": "1", "b": "2"}),
        (function("other"), "x", {"query": "x"}),
    ],
)
async def test_the_tool_command_puts_its_query_where_the_schema_wants_it(
    tool: dict[str, Any], query: str, arguments: dict[str, Any]
) -> None:
    deltas, response = await answer(asking(f"/tool t {query}", tool))

    assert deltas == []
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("t", arguments)]


async def test_the_answer_after_a_tool_call_is_what_the_tool_returned() -> None:
    request = LLMRequest(
        messages=[
            {"role": "user", "content": "/tool calc 1+1"},
            {"role": "tool", "tool_call_id": "1", "name": "calc", "content": "2"},
        ]
    )

    assert (await answer(request))[1].output_text == "calc says: 2"


async def test_an_incomplete_command_explains_itself() -> None:
    assert (await answer(asking("/tool")))[1].output_text.startswith("Usage: /tool")


async def test_text_that_only_begins_like_the_command_is_text() -> None:
    assert (await answer(asking("/toolbox x")))[1].output_text == "Echo: /toolbox x (history=0)"
