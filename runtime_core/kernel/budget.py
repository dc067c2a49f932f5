"""The limits of one run, from its request and its agent. Pure."""

from __future__ import annotations

from runtime_core.config.schema import AgentDefinition
from runtime_core.contracts.run import RunBudget, RunRequest, RunUsage
from runtime_core.errors import BudgetExhausted, ExecutionError


class DurationExceeded(ExecutionError, TimeoutError):
    """The run took longer than its budget allows."""


def effective_budget(request: RunRequest, agent: AgentDefinition) -> RunBudget:
    """The request's budget, filled up from the agent's ``runtime`` options.

    ``runtime.step_timeout_ms`` caps the whole run, by a misleading name that configs depend on; it does so only where
    the agents file sets it. (For a pattern it is also the default of what one iteration may take.)
    """
    budget = request.budget or RunBudget()
    if budget.max_duration_ms is None and "step_timeout_ms" in agent.runtime.model_fields_set:
        return budget.model_copy(update={"max_duration_ms": agent.runtime.step_timeout_ms})
    return budget


def check_tool_budget(budget: RunBudget | None, usage: RunUsage) -> None:
    """Raise BudgetExhausted if the run has no tool call left."""
    if budget and budget.max_tool_calls is not None and usage.tool_calls >= budget.max_tool_calls:
        raise BudgetExhausted(
            f"the run has made its {budget.max_tool_calls} tool calls",
            hint="raise budget.max_tool_calls of the request",
        )
