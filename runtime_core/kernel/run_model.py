"""The model as one run sees it: what the agent's llm options say about each of its requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from runtime_core.config.schema import LLMOptions, LLMRetryOptions
from runtime_core.contracts.run import RunUsage
from runtime_core.llm.pricing import PricedClient
from runtime_core.llm.protocol import LLMClient
from runtime_core.llm.retrying import RetryingClient


def run_model(
    client: LLMClient | None,
    options: LLMOptions | None,
    *,
    usage: RunUsage,
    guard: Callable[[], Awaitable[None]],
    time_left: Callable[[], float | None],
) -> LLMClient | None:
    """``client`` with its retries, which ``usage`` counts, and the price of each answer. Retries need no option.

    ``guard`` is awaited before a request is repeated; ``time_left`` are the seconds until the run's deadline.
    """
    if client is None:
        return None
    retry = (options.retry if options else None) or LLMRetryOptions()
    retrying = RetryingClient(client, retry, usage=usage, guard=guard, time_left=time_left)
    return PricedClient(retrying, options.pricing if options else None)
