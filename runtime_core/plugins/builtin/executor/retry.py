"""Tool executor ``retry``: calls that failed for a passing reason are made again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.tool import ToolExecutionRequest, ToolExecutionResult
from runtime_core.plugins.builtin.executor.wrapping import WrappingExecutor, safe


class RetryToolExecutor(WrappingExecutor):
    """1. What is tried again is a failure whose error is ``retryable``; ``retry_after_ms`` is the least it waits.
       A wait that would outlast the run is not begun: the model is told at once.
    2. All tries are one call: with one call id, counted once against the budget of tool calls.
    3. The result's metadata says how often it was tried (``retry_attempts``), and if it was tried again, after which
       waits (``retry_delays_ms``) and errors (``retry_reasons``). A stream is not tried again.
    """

    class Config(BaseModel):
        inner: PluginRef = Field(default_factory=safe)
        #: Tries in all.
        max_attempts: PositiveInt = 3
        #: Milliseconds before the second try; each wait is ``backoff_multiplier`` times the one before.
        initial_delay_ms: NonNegativeInt = 200
        backoff_multiplier: float = Field(default=2.0, ge=1.0)
        max_delay_ms: NonNegativeInt = 5_000
        #: Chance in a wait: none; all of it, from 0 on; or its second half, so that half of it is waited in any case.
        jitter: Literal["none", "full", "equal"] = "equal"

    async def execute(self, request: ToolExecutionRequest) -> ToolExecutionResult:
        waits: list[int] = []
        reasons: list[str] = []
        while True:
            result: ToolExecutionResult = await self.inner.execute(request)
            error: Any = result.exception
            tried = len(waits) + 1
            final = result.success or tried >= self.cfg.max_attempts or getattr(error, "retryable", False) is not True
            wait_ms = 0 if final else self._wait_ms(tried, getattr(error, "retry_after_ms", None) or 0)
            if final or _outlasts(wait_ms, request):
                more = {"retry_delays_ms": waits, "retry_reasons": reasons} if waits else {}
                return replace(result, metadata={**result.metadata, "retry_attempts": tried, **more})
            waits.append(wait_ms)
            reasons.append(type(error).__name__)
            await asyncio.sleep(waits[-1] / 1000)

    def _wait_ms(self, tried: int, at_least_ms: float) -> int:
        config = self.cfg
        longest = max(config.initial_delay_ms, config.max_delay_ms)
        wait_ms = min(config.initial_delay_ms * config.backoff_multiplier ** (tried - 1), longest)
        match config.jitter:
            case "full":
                wait_ms = random.uniform(0, wait_ms)
            case "equal":
                wait_ms = random.uniform(wait_ms / 2, wait_ms)
            case _:
                pass
        return round(max(wait_ms, at_least_ms))


def _outlasts(wait_ms: int, request: ToolExecutionRequest) -> bool:
    left = request.context.deadlines.time_left()
    return left is not None and wait_ms / 1000 >= left
