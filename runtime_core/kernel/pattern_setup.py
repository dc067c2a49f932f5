"""Handing a run to its pattern, whatever shape the pattern has."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.kernel.optional_methods import optional_method


async def set_up_pattern(pattern: Any, context: RunContext[Any]) -> None:
    """Call the pattern's ``setup`` with the parts of the run that it accepts, then make ``context`` its context.

    A pattern of this project takes ``context``; one of the openagents SDK takes the parts one by one (agent_id,
    session_id, input_text, state, tools, llm_client, …) and would make a context of its own, which is replaced.
    """
    if (setup := optional_method(pattern, "setup")) is not None:
        outcome = setup(**_accepted(setup, {"context": context, **_parts(context)}))
        if inspect.isawaitable(outcome):
            await outcome
    _set_context(pattern, context)


def release_pattern(pattern: Any) -> None:
    """Let go of the run, so that nothing of it leaks into the next one."""
    _set_context(pattern, None)


def _parts(context: RunContext[Any]) -> dict[str, Any]:
    return {part.name: getattr(context, part.name) for part in fields(context)}


def _accepted(function: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(parts)
    names = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    return {name: part for name, part in parts.items() if name in names}


def _set_context(pattern: Any, context: RunContext[Any] | None) -> None:
    with suppress(AttributeError):  # a pattern with slots has chosen to have no context
        pattern.context = context
