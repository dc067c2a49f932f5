"""What memory gave, as messages for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import to_json

from runtime_core.llm.protocol import Message


def messages_from_memory(memory_view: Mapping[str, Any]) -> list[Message]:
    """``memory_view["history"]`` as messages, oldest first.

    An item may be an exchange (``{"input", "output"}``) or a message (``{"role", "content"}``); anything else is shown
    as a note of the system.
    """
    messages: list[Message] = []
    for item in cast("list[Any]", memory_view.get("history") or []):
        match item:
            case {"role": "system" | "user" | "assistant" as role, "content": content}:
                messages.append({"role": role, "content": text_for_model(content)})
            case {"input": asked, **rest}:
                messages.append({"role": "user", "content": text_for_model(asked)})
                if rest.get("output") is not None:
                    messages.append({"role": "assistant", "content": text_for_model(rest["output"])})
            case note:
                messages.append({"role": "system", "content": text_for_model(note)})
    return messages


def text_for_model(value: Any) -> str:
    """Text as it is, anything else as JSON; what neither JSON nor UTF-8 can hold is replaced."""
    try:
        text = value if isinstance(value, str) else to_json(value, fallback=str).decode()
    except ValueError:  # a lone surrogate, or an object that contains itself
        text = str(value)
    return text.encode(errors="replace").decode()
