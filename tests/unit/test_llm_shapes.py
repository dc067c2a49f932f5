"""Messages and tools as patterns of the openagents SDK write them for Anthropic, in the shape that all clients take."""

from __future__ import annotations

from typing import Any

from runtime_core.llm.mock import MockClient
from runtime_core.llm.protocol import LLMResponse, LLMToolCall
from runtime_core.llm.shapes import as_chat, as_functions


def test_an_answer_that_is_sent_back_as_blocks_is_the_same_conversation() -> None:
    answer = LLMResponse(output_text="I look.", tool_calls=[LLMToolCall(id="c1", name="calc", arguments={"x": 1})])

    chat = as_chat(
        [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "2"}]},
        ]
    )

    assert chat == [
        {"role": "user", "content": "1+1?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "calc", "arguments": '{"x": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "calc", "content": "2"},
    ]


def test_text_beside_results_comes_after_them() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "go on"},
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "2"}]},
    ]

    assert [(message["role"], message["content"]) for message in as_chat([{"role": "user", "content": blocks}])] == [
        ("tool", "2"),
        ("user", "go on"),
    ]


def test_what_is_in_the_chat_shape_or_unknown_stays_as_it_is() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": "c", "name": "calc", "content": "2"},
        {"role": "user", "content": [{"type": "image", "source": {}}]},
        {"role": "user", "content": []},
    ]
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "calc"}}]

    assert as_chat(messages) == messages
    assert as_functions(tools) == tools


async def test_a_pattern_that_writes_for_anthropic_gets_its_tool_called_and_its_answer() -> None:
    schema = {"type": "object", "properties": {"expression": {"type": "string"}}}
    tools = [{"name": "calc", "description": "reckons", "input_schema": schema}]
    conversation: list[dict[str, Any]] = [{"role": "user", "content": "/tool calc 1+1"}]

    asked = await MockClient().generate(messages=conversation, tools=tools)
    (call,) = asked.tool_calls
    conversation.append({"role": "assistant", "content": asked.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "2"}
    conversation.append({"role": "user", "content": [result]})
    answer = await MockClient().generate(messages=conversation, tools=tools)

    assert call.arguments == {"expression": "1+1"}
    assert answer.output_text == "calc says: 2"
