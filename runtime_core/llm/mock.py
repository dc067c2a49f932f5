"""A model that needs no network and always answers the same: for development, tests and the demo.

- ``/tool <id> <query>`` calls that tool, with the query in the parameter that its schema wants, and answers from what
  the tool returned. A query that is a JSON object is taken as all the parameters.
- Anything else is echoed with the number of earlier exchanges that the conversation holds.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, cast

from runtime_core.llm.protocol import (
    CHARACTERS_PER_TOKEN,
    LLMClient,
    LLMRequest,
    LLMResponse,
    LLMToolCall,
    LLMUsage,
    Message,
    TextDelta,
)

_TOOL_COMMAND = re.compile(r"/tool(?:\s+(?P<tool>\S+)(?:\s+(?P<query>.*))?)?\s*", re.DOTALL)


class MockClient(LLMClient):
    provider_name = "mock"

    def __init__(self, model: str | None = None) -> None:
        self.model_id = model or "mock"

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        response = self._answer(request)
        for word in re.findall(r"\S+\s*|\s+", response.output_text):
            yield TextDelta(text=word)
            await asyncio.sleep(0)  # let other runs have their turn, as a model on the network would
        yield response

    def _answer(self, request: LLMRequest) -> LLMResponse:
        last = request.messages[-1] if request.messages else {}
        text, calls = "", list[LLMToolCall]()
        if last.get("role") == "tool":
            text = f"{last.get('name', 'The tool')} says: {last.get('content', '')}"
        else:
            asked = [_text(message) for message in request.messages if message.get("role") == "user"]
            question = asked[-1] if asked else ""
            command = _TOOL_COMMAND.fullmatch(question.strip())
            if command is None:
                text = f"Echo: {question} (history={max(0, len(asked) - 1)})"
            elif command["tool"] is None:
                text = "Usage: /tool <tool_id> <query>"
            else:
                name, query = command["tool"], command["query"] or ""
                arguments = _arguments(_schema(request.tools, name), query)
                calls = [LLMToolCall(id=f"mock_{name}", name=name, arguments=arguments)]
        return LLMResponse(
            output_text=text,
            tool_calls=calls,
            usage=_usage(request.messages, text),
            model=request.model or self.model_id,
            stop_reason="tool_use" if calls else "end_turn",
        )


def _text(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _schema(tools: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for tool in tools:
        function = tool.get("function", {})
        if function.get("name") == name:
            return function.get("parameters") or {}
    return {}


def _arguments(schema: dict[str, Any], query: str) -> dict[str, Any]:
    """``query`` as the arguments of a tool: a JSON object as it is, else text for the first parameter that wants it."""
    try:
        value = json.loads(query)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    properties: dict[str, dict[str, Any]] = schema.get("properties") or {}
    required: list[str] = [name for name in schema.get("required") or [] if name in properties]
    texts = [name for name, property_ in properties.items() if property_.get("type") == "string"]
    if not query and not required:
        return {}
    if "query" in properties or not properties:
        return {"query": query}
    return {next(iter([*required, *texts, *properties])): query}


def _usage(messages: list[Message], answer: str) -> LLMUsage:
    characters = sum(len(_text(message)) for message in messages)
    return LLMUsage(
        input_tokens=-(-characters // CHARACTERS_PER_TOKEN), output_tokens=-(-len(answer) // CHARACTERS_PER_TOKEN)
    )
