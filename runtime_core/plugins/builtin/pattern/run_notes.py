"""What a run notes of itself in ``context.scratch``: its step, its tool calls, the artifacts it has announced."""

from __future__ import annotations

from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunArtifact
from runtime_core.errors import ModelRetryError
from runtime_core.ids import derived_run_id
from runtime_core.llm.usage import cost_is_unknown

#: The iteration that the pattern is in, from 0.
STEP_KEY = "step"
_ORDINALS_KEY = "tool_ordinals"
_RETRIES_KEY = "tool_retry_requests"
_ANNOUNCED_KEY = "announced_artifacts"
_COST_SKIPPED_KEY = "cost_skipped"


def next_call_id(context: RunContext[Any], tool_id: str) -> str:
    """The id of the next call of a tool: hash of run, step, tool and ordinal, so that a later attempt gets the same."""
    step: int = context.scratch.get(STEP_KEY, 0)
    ordinals: dict[tuple[int, str], int] = context.scratch.setdefault(_ORDINALS_KEY, {})
    ordinal = ordinals.get((step, tool_id), 0)
    ordinals[step, tool_id] = ordinal + 1
    return derived_run_id(context.run_id, str(step), tool_id, str(ordinal))


def note_retry_request(context: RunContext[Any], tool_id: str, error: BaseException) -> int | None:
    """How often the tool has now asked the model to try again (a ModelRetryError, of whatever SDK); None if it did not,
    or has done so more often than the budget's ``max_validation_retries``.
    """
    counts: dict[str, int] = context.scratch.setdefault(_RETRIES_KEY, {})
    if getattr(error.__cause__, "code", None) != ModelRetryError.code:
        return None
    counts[tool_id] = counts.get(tool_id, 0) + 1
    budget = context.run_request.budget
    limit = budget.max_validation_retries if budget else 3
    return counts[tool_id] if limit is None or counts[tool_id] <= limit else None


async def announce_artifacts(context: RunContext[Any]) -> None:
    """Emit ``artifact.emitted`` for the artifacts that came since the last time."""
    announced: int = context.scratch.get(_ANNOUNCED_KEY, 0)
    # Artifacts of the openagents SDK have the same fields in a class of its own.
    new = [RunArtifact.model_validate(artifact, from_attributes=True) for artifact in context.artifacts[announced:]]
    context.artifacts[announced:] = new
    context.scratch[_ANNOUNCED_KEY] = announced + len(new)
    for artifact in new:
        await context.event_bus.emit("artifact.emitted", **artifact.model_dump())


async def note_unknown_cost(context: RunContext[Any]) -> None:
    """Emit ``budget.cost_skipped``, once, if the run has a limit on its cost and its cost cannot be known."""
    budget = context.run_request.budget
    limit = budget.max_cost_usd if budget else None
    if limit is None or not cost_is_unknown(context.usage) or context.scratch.get(_COST_SKIPPED_KEY):
        return
    context.scratch[_COST_SKIPPED_KEY] = True
    priced = getattr(context.llm_options, "pricing", None) is not None
    reason = "llm.pricing lacks a price that is needed" if priced else "the agent has no llm.pricing"
    await context.event_bus.emit("budget.cost_skipped", limit=limit, reason=reason)
