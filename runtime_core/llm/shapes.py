"""Messages and tools in the shape of Anthropic's API, as patterns of the openagents SDK write them for that provider,
turned into the shape of OpenAI's chat API, which is the one of this seam.
"""

from __future__ import annotations

import json
from typing import Any, cast

_Message = dict[str, Any]
_Block = dict[str, Any]


def as_functions(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``tools``, those with an ``input_schema`` of their own as functions."""
    return [_function(tool) if "function" not in tool and "name" in tool else tool for tool in tools]


def as_chat(messages: list[_Message]) -> list[_Message]:
    """``messages``, those that consist of text, ``tool_use`` and ``tool_result`` blocks as chat messages."""
    chat: list[_Message] = []
    names: dict[Any, Any] = {}
    for message in messages:
        blocks = _blocks(message)
        if blocks is None:
            chat.append(message)
        elif message.get("role") == "assistant":
            chat.append(_assistant(message, blocks))
            names.update({block.get("id"): block.get("name") for block in blocks if block["type"] == "tool_use"})
        else:
            chat.extend(_results(blocks, names))
            if text := _text(blocks):
                chat.append({**message, "content": text})
    return chat


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool.get("input_schema") or tool.get("parameters") or {"type": "object", "properties": {}}
    description = tool.get("description") or ""
    return {
        "type": "function",
        "function": {"name": tool["name"], "description": description, "parameters": schema},
    }


def _blocks(message: _Message) -> list[_Block] | None:
    """The blocks of a message that has no others, else None: images and the like are the provider's affair."""
    content: Any = message.get("content")
    if not isinstance(content, list) or not content:
        return None
    blocks = cast("list[Any]", content)
    known = ("text", "tool_use", "tool_result")
    return blocks if all(isinstance(one, dict) and cast("_Block", one).get("type") in known for one in blocks) else None


def _assistant(message: _Message, blocks: list[_Block]) -> _Message:
    calls = [
        {
            "id": block.get("id") or "",
            "type": "function",
            "function": {"name": block.get("name") or "", "arguments": json.dumps(block.get("input") or {})},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    said = {**message, "content": _text(blocks)}
    return {**said, "tool_calls": calls} if calls else said


def _results(blocks: list[_Block], names: dict[Any, Any]) -> list[_Message]:
    results: list[_Message] = []
    for block in blocks:
        if block["type"] == "tool_result":
            call_id, content = block.get("tool_use_id") or "", block.get("content")
            results.append(
                {"role": "tool", "tool_call_id": call_id, "name": names.get(call_id, ""), "content": _plain(content)}
            )
    return results


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = _blocks({"content": content})
    return json.dumps(content, ensure_ascii=False, default=str) if blocks is None else _text(blocks)


def _text(blocks: list[_Block]) -> str:
    return "\n".join(block.get("text") or "" for block in blocks if block["type"] == "text")
