"""Handing a run to its pattern, whatever shape the pattern has."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.kernel.optional_methods import optional_method

#: What the openagents SDK hands to ``setup`` in any case: plain values and objects that it does not check.
_PARTS = ("agent_id", "session_id", "input_text", "state", "tools", "llm_client", "llm_options", "event_bus")
#: Handed over where ``setup`` has no default for them. The SDK's own base class has one, and refuses types not its own.
_MORE_PARTS = (
    *("transcript", "session_artifacts", "assembly_metadata", "run_request", "tool_executor", "usage", "artifacts"),
    *("run_id", "deps", "scope", "agent_router"),
)


async def set_up_pattern(pattern: Any, context: RunContext[Any]) -> None:
    """Call the pattern's ``setup`` with the parts of the run that it accepts, then make ``context`` its context.

    A pattern of this project takes ``context``; one of the openagents SDK takes the parts one by one and makes a
    context of its own, which is replaced.
    """
    if (setup := optional_method(pattern, "setup")) is not None:
        outcome = setup(**_accepted(setup, context))
        if inspect.isawaitable(outcome):
            await outcome
    _set_context(pattern, context)


def release_pattern(pattern: Any) -> None:
    """Let go of the run, so that nothing of it leaks into the next one."""
    _set_context(pattern, None)


def _accepted(setup: Any, context: RunContext[Any]) -> dict[str, Any]:
    parameters = inspect.signature(setup).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    accepted = {name: getattr(context, name) for name in _PARTS if takes_any or name in parameters}
    for name in _MORE_PARTS:
        if name in parameters and parameters[name].default is inspect.Parameter.empty:
            accepted[name] = getattr(context, name)
    if "context" in parameters:
        accepted["context"] = context
    return accepted


def _set_context(pattern: Any, context: RunContext[Any] | None) -> None:
    with suppress(AttributeError):  # a pattern with slots has chosen to have no context
        pattern.context = context
