"""The seam between patterns and model providers.

Messages and tools have the shape of OpenAI's chat API, which configs and plugins of the openagents SDK use too:
``{"role": "system" | "user" | "assistant" | "tool", "content": str, …}``; an assistant message may carry ``tool_calls``
(``[{"id", "type": "function", "function": {"name", "arguments": JSON text}}]``) and a tool message names its
``tool_call_id``. A tool is ``{"type": "function", "function": {"name", "description", "parameters": JSON schema}}``.
``generate`` takes Anthropic's shape, too, see shapes.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from runtime_core.errors import LLMResponseError
from runtime_core.llm.shapes import as_chat, as_functions

Message: TypeAlias = dict[str, Any]

#: Rough size of a token.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class LLMRequest:
    """One request to a model; None leaves the setting to the client's options."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class LLMToolCall:
    """The model asks for a tool. ``arguments`` is empty if the model sent none.

    ``problem`` says, for the model, why its arguments cannot be read; the tool is not to be called then.
    """

    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class LLMUsage:
    """Tokens of one request."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of the answer's text, as it arrives."""

    text: str


@dataclass(frozen=True, kw_only=True)
class LLMResponse:
    """The whole answer: text, tool calls, or both."""

    output_text: str = ""
    tool_calls: list[LLMToolCall] = field(default_factory=list[LLMToolCall])
    usage: LLMUsage = field(default_factory=LLMUsage)
    model: str = ""
    stop_reason: str = ""

    @property
    def content(self) -> list[dict[str, Any]]:
        """The answer as blocks, for patterns of the openagents SDK, which send them back as they are."""
        text = [{"type": "text", "text": self.output_text}] if self.output_text else []
        calls = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in self.tool_calls
        ]
        return [*text, *calls]


class LLMClient(ABC):
    """A model provider.

    1. ``stream`` yields the answer's TextDeltas in order and then, last, exactly one LLMResponse that repeats it whole.
    2. It keeps no state between requests; requests of many runs go through one client at the same time.
    3. It raises only errors of the LLMError tree, and passes on cancellation.
    """

    provider_name: str = "unknown"
    #: Of the options; empty if a request always names its own.
    model_id: str = ""

    @abstractmethod
    def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]: ...

    async def generate(
        self,
        *,
        messages: list[Message],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: list[dict[str, Any]] | None = None,
        **_unsupported: Any,
    ) -> LLMResponse:
        """The whole answer at once, for patterns that do not stream."""
        request = LLMRequest(
            messages=as_chat(messages),
            tools=as_functions(tools or []),
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        async for part in self.stream(request):
            if isinstance(part, LLMResponse):
                return part
        raise LLMResponseError(f"the provider {self.provider_name} ended its stream without an answer")

    def count_tokens(self, text: str) -> int:
        """Roughly, without asking anybody: a budget that is checked before a request can use no more."""
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    async def complete(self, **request: Any) -> str:
        """The text of ``generate``."""
        return (await self.generate(**request)).output_text

    async def close(self) -> None:
        """Close connections. The client is not used afterwards."""
        return
