"""A model client that asks again after an error that may pass.

stamina is not used for it: what a provider says about when to come back, what is left of ``total_budget_ms`` and of the
run's own time all decide whether a wait is worth it, and it logs retries in a way of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from runtime_core.contracts.run import RunUsage
from runtime_core.errors import LLMConnectionError, LLMError
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, TextDelta
from runtime_core.llm.wrapped import WrappedClient

if TYPE_CHECKING:
    from runtime_core.config.schema import LLMRetryOptions

logger = logging.getLogger(__name__)


class RetryingClient(WrappedClient):
    """Repeats requests of one run as ``options`` say.

    1. Only errors that are ``retryable`` are, and none once a part of the answer has been handed on.
    2. A wait is as long as the backoff, or as the provider asked for if that is longer. One that would outlast
       ``total_budget_ms`` or ``time_left`` is not begun: the error is raised at once.
    3. ``guard`` is awaited before each repeated request, as it has been before the first.
    4. Each repetition counts in ``usage.llm_retry_count``.
    """

    def __init__(
        self,
        client: LLMClient,
        options: LLMRetryOptions,
        *,
        usage: RunUsage,
        guard: Callable[[], Awaitable[None]],
        time_left: Callable[[], float | None],
    ) -> None:
        super().__init__(client)
        self._options = options
        self._usage = usage
        self._guard = guard
        #: Seconds until the run's deadline, None without one.
        self._time_left = time_left

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        started = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            handed_on = False
            try:
                async with aclosing(cast("Any", self._client.stream(request))) as parts:
                    async for part in parts:
                        handed_on = True
                        yield part
                return
            except LLMError as error:
                wait = None if handed_on else self._wait(error, attempt, elapsed=time.monotonic() - started)
                if wait is None:
                    raise
                logger.warning(
                    "the model %s is asked again in %.1f s, after attempt %d of %d: %s",
                    *(request.model or self.model_id, wait, attempt, self._options.max_attempts, error.message),
                )
            await asyncio.sleep(wait)
            await self._guard()
            self._usage.llm_retry_count += 1

    def _wait(self, error: LLMError, attempt: int, *, elapsed: float) -> float | None:
        """Seconds until the next attempt, None if there is to be none."""
        options = self._options
        if attempt >= options.max_attempts or not error.retryable:
            return None
        if isinstance(error, LLMConnectionError) and not options.retry_on_connection_errors:
            return None
        asked = (getattr(error, "retry_after_ms", None) or 0) / 1000
        wait = max(backoff(options, attempt), asked)
        budgets = [self._time_left()]
        if options.total_budget_ms is not None:
            budgets.append(options.total_budget_ms / 1000 - elapsed)
        return None if any(left is not None and wait >= left for left in budgets) else wait


def backoff(options: LLMRetryOptions, attempt: int) -> float:
    """Seconds after the failed ``attempt``, from 1: between a half and the whole of what the options say."""
    # The exponent is bounded: a hundred attempts must not overflow a float.
    grown = options.initial_backoff_ms * options.backoff_multiplier ** min(attempt - 1, 64)
    return min(grown, options.max_backoff_ms) / 1000 * random.uniform(0.5, 1.0)
