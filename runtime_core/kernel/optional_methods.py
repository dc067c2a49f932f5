"""Methods that a plugin may have or not (see plugins/protocols.py)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def optional_method(plugin: Any, name: str) -> Callable[..., Any] | None:
    """The plugin's method, or None; None as well for a plugin that is None."""
    method: Any = getattr(plugin, name, None)
    return method if callable(method) else None


async def call_if_present(plugin: Any, name: str, *arguments: Any) -> Any:
    """What the method returns, awaited if need be; None without the method."""
    method = optional_method(plugin, name)
    if method is None:
        return None
    outcome = method(*arguments)
    return await outcome if inspect.isawaitable(outcome) else outcome
