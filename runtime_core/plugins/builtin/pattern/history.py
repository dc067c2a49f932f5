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
                messages.append({"role": role, "content": _text(content)})
            case {"input": asked, **rest}:
                messages.append({"role": "user", "content": _text(asked)})
                if rest.get("output") is not None:
                    messages.append({"role": "assistant", "content": _text(rest["output"])})
            case note:
                messages.append({"role": "system", "content": _text(note)})
    return messages


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()
