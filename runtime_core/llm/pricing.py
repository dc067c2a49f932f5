"""What a request to a model cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, LLMUsage, TextDelta
from runtime_core.llm.wrapped import WrappedClient

if TYPE_CHECKING:
    from runtime_core.config.schema import LLMPricing

#: Keys of ``LLMUsage.metadata``, where patterns of the openagents SDK look too.
COST_KEY = "cost_usd"
BREAKDOWN_KEY = "cost_breakdown"

_TOKENS = 1_000_000


def cost_of(usage: LLMUsage, pricing: LLMPricing) -> dict[str, float] | None:
    """USD by kind of token: input, output, cached_read, cached_write. None if a price that is needed is missing.

    ``usage.input_tokens`` includes those that were read from or written to the provider's cache.
    """
    uncached = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_creation_tokens)
    counted = {
        "input": (uncached, pricing.input),
        "output": (usage.output_tokens, pricing.output),
        "cached_read": (usage.cached_tokens, pricing.cached_read),
        "cached_write": (usage.cache_creation_tokens, pricing.cached_write),
    }
    if any(tokens and price is None for tokens, price in counted.values()):
        return None
    return {kind: tokens * (price or 0.0) / _TOKENS for kind, (tokens, price) in counted.items()}


class PricedClient(WrappedClient):
    """Notes the cost of each answer in ``usage.metadata``: ``cost_usd`` (None if unknown) and ``cost_breakdown``."""

    def __init__(self, client: LLMClient, pricing: LLMPricing | None) -> None:
        super().__init__(client)
        self._pricing = pricing
        #: USD; patterns of the openagents SDK ask for it.
        self.price_per_mtok_input = pricing.input if pricing else None

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        async with aclosing(cast("Any", self._client.stream(request))) as parts:
            async for part in parts:
                yield self._priced(part) if isinstance(part, LLMResponse) else part

    def _priced(self, response: LLMResponse) -> LLMResponse:
        usage = response.usage
        breakdown = cost_of(usage, self._pricing) if self._pricing else None
        cost = None if breakdown is None else sum(breakdown.values())
        noted = {
            **usage.metadata,
            "cached_tokens": usage.cached_tokens,
            "cache_creation_input_tokens": usage.cache_creation_tokens,
            COST_KEY: cost,
            BREAKDOWN_KEY: breakdown or {},
        }
        return replace(response, usage=replace(usage, metadata=noted))
