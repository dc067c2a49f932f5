"""The limits of one run, from its request and its agent. Pure."""

from __future__ import annotations

from runtime_core.config.schema import AgentDefinition
from runtime_core.contracts.run import RunBudget, RunRequest, RunUsage
from runtime_core.errors import BudgetExhausted, ExecutionError
from runtime_core.llm.usage import check_cost_budget

_COUNTERS = (
    *("llm_calls", "tool_calls", "input_tokens", "output_tokens", "total_tokens"),
    *("input_tokens_cached", "input_tokens_cache_creation", "llm_retry_count"),
)


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


def child_budget(asked: RunBudget | None, parent: RunBudget | None, spent: RunUsage) -> RunBudget | None:
    """What a child run may spend: what was asked for it, but no more than its parent has left.

    Raises BudgetExhausted if the parent has no tool call or no money left.
    """
    if parent is None:
        return asked
    check_tool_budget(parent, spent)
    check_cost_budget(parent, spent)
    left: dict[str, float | int] = {}
    if parent.max_tool_calls is not None:
        left["max_tool_calls"] = parent.max_tool_calls - spent.tool_calls
    if parent.max_cost_usd is not None:
        left["max_cost_usd"] = max(0.0, parent.max_cost_usd - (spent.cost_usd or 0.0))
    child = asked or RunBudget()
    limits = {name: value for name in left if (value := getattr(child, name)) is not None}
    return child.model_copy(update={name: min(value, limits.get(name, value)) for name, value in left.items()})


def add_usage(usage: RunUsage, more: RunUsage) -> None:
    """Count what a child run consumed as its parent's. Latencies stay the parent's own."""
    for name in _COUNTERS:
        setattr(usage, name, getattr(usage, name) + getattr(more, name))
    if more.cost_usd is not None:
        usage.cost_usd = (usage.cost_usd or 0.0) + more.cost_usd
    for name, cost in more.cost_breakdown.items():
        usage.cost_breakdown[name] = usage.cost_breakdown.get(name, 0.0) + cost
