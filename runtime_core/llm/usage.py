"""Adding up what a run's model requests consumed."""

from __future__ import annotations

import math

from runtime_core.contracts.run import RunUsage
from runtime_core.llm.protocol import LLMUsage


def record_llm_call(
    usage: RunUsage, call: LLMUsage, latencies_ms: list[float], *, latency_ms: float, ttft_ms: float | None
) -> None:
    """Add one request to ``usage`` and its latency to ``latencies_ms``, from which the percentiles are taken anew.

    ``ttft_ms`` of the run is that of its first request that streamed text.
    """
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


def percentile(values: list[float], fraction: float) -> float:
    """Nearest-rank percentile of at least one value; 0 < ``fraction`` ≤ 1."""
    return sorted(values)[math.ceil(fraction * len(values)) - 1]
