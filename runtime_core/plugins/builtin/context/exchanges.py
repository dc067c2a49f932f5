"""A transcript as exchanges: what a user said, with all that was answered. Pure.

Assemblers keep exchanges whole: providers refuse a tool's answer without its call, and a conversation that begins with
an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_core.llm.protocol import CHARACTERS_PER_TOKEN
from runtime_core.plugins.builtin.pattern.history import text_for_model

Message = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    messages: tuple[Message, ...]
    #: As estimated.
    tokens: int


def exchanges(transcript: Sequence[Message]) -> list[Exchange]:
    """In order. What stands before the first message of a user is one exchange."""
    groups: list[list[Message]] = []
    for message in transcript:
        if not groups or message.get("role") == "user":
            groups.append([])
        groups[-1].append(message)
    return [Exchange(messages=tuple(group), tokens=sum(map(tokens_of, group))) for group in groups]


def tokens_of(message: Message) -> int:
    """Of its content, by its length: four characters each, at least one."""
    content: Any = message.get("content") or ""
    text = content if isinstance(content, str) else text_for_model(content)
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


def messages_of(kept: Iterable[Exchange]) -> list[Message]:
    return [message for exchange in kept for message in exchange.messages]


def newest_that_fit(given: Sequence[Exchange], budget: int) -> list[Exchange]:
    """The newest of ``given`` without a gap, in order, of at most ``budget`` tokens together."""
    kept: list[Exchange] = []
    for exchange in reversed(given):
        if exchange.tokens > budget:
            break
        kept.append(exchange)
        budget -= exchange.tokens
    return kept[::-1]


def note_of_omission(text: str) -> Message:
    """Stands where messages were left out."""
    return {"role": "system", "content": text}
