"""Adding up what a run's model requests consumed."""

from __future__ import annotations

import math

from runtime_core.contracts.run import RunBudget, RunUsage
from runtime_core.errors import BudgetExhausted
from runtime_core.llm.pricing import BREAKDOWN_KEY, COST_KEY
from runtime_core.llm.protocol import LLMUsage


def record_llm_call(
    usage: RunUsage, call: LLMUsage, latencies_ms: list[float], *, latency_ms: float, ttft_ms: float | None
) -> None:
    """Add one request to ``usage`` and its latency to ``latencies_ms``, from which the percentiles are taken anew.

    ``ttft_ms`` of the run is that of its first request that streamed text. The run's cost is unknown from the first
    request on whose cost is.
    """
    cost: float | None = call.metadata.get(COST_KEY)
    if cost is None or cost_is_unknown(usage):
        usage.cost_usd = None
    else:
        usage.cost_usd = (usage.cost_usd or 0.0) + cost
    for kind, amount in call.metadata.get(BREAKDOWN_KEY, {}).items():
        usage.cost_breakdown[kind] = usage.cost_breakdown.get(kind, 0.0) + amount
    usage.llm_calls += 1
    usage.input_tokens += call.input_tokens
    usage.output_tokens += call.output_tokens
    usage.total_tokens += call.total_tokens
    usage.input_tokens_cached += call.cached_tokens
    usage.input_tokens_cache_creation += call.cache_creation_tokens
    if usage.ttft_ms is None:
        usage.ttft_ms = ttft_ms
    latencies_ms.append(latency_ms)
    usage.llm_latency_p50_ms = percentile(latencies_ms, 0.50)
    usage.llm_latency_p95_ms = percentile(latencies_ms, 0.95)


def cost_is_unknown(usage: RunUsage) -> bool:
    """Whether the run has made a request whose cost nobody knows."""
    return usage.llm_calls > 0 and usage.cost_usd is None


def check_cost_budget(budget: RunBudget | None, usage: RunUsage, *, spent: bool = False) -> None:
    """Raise BudgetExhausted if the run may not spend more; with ``spent``, after a request, if it has spent too much.

    A run whose cost is unknown is let go on: its pattern says so with ``budget.cost_skipped``.
    """
    limit = budget.max_cost_usd if budget else None
    cost = None if cost_is_unknown(usage) else usage.cost_usd or 0.0
    if limit is None or cost is None or (cost <= limit if spent else cost < limit):
        return
    raise BudgetExhausted(
        f"the run has cost {cost:.6g} USD of the {limit:g} that it may",
        hint="raise budget.max_cost_usd of the request",
    )


def percentile(values: list[float], fraction: float) -> float:
    """Nearest-rank percentile of at least one value; 0 < ``fraction`` ≤ 1."""
    return sorted(values)[math.ceil(fraction * len(values)) - 1]
