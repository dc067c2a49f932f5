"""Requests that are repeated, and those that are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from runtime_core.config.schema import LLMRetryOptions
from runtime_core.contracts.run import RunBudget, RunUsage, StopReason
from runtime_core.errors import LeaseLost, LLMConnectionError, LLMError, LLMRateLimitError, LLMResponseError
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, TextDelta
from runtime_core.llm.retrying import RetryingClient, backoff
from tests.unit.kernel_setup import request as run_request
from tests.unit.kernel_setup import runtime

QUICK: dict[str, Any] = {"initial_backoff_ms": 1, "max_backoff_ms": 1}


class Scripted(LLMClient):
    """Answers each request with the next of ``script``: pieces of text, then "." or an error."""

    provider_name = "scripted"
    model_id = "m"

    def __init__(self, *script: Sequence[str | LLMError]) -> None:
        self.script: list[Sequence[str | LLMError]] = list(script)
        self.asked = 0

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        self.asked += 1
        for part in self.script.pop(0):
            if isinstance(part, LLMError):
                raise part
            yield TextDelta(text=part)
        yield LLMResponse(output_text="whole")


async def at_once() -> None:
    return None


def retrying(
    client: LLMClient, usage: RunUsage | None = None, guard: Any = at_once, left: float | None = None, **options: Any
) -> RetryingClient:
    return RetryingClient(
        client,
        LLMRetryOptions(**(QUICK | options)),
        usage=usage or RunUsage(),
        guard=guard,
        time_left=lambda: left,
    )


async def text(client: LLMClient) -> str:
    return await client.complete(messages=[])


async def test_an_error_that_may_pass_is_followed_by_another_request() -> None:
    client, usage = Scripted([LLMConnectionError()], [LLMRateLimitError()], ["w", "hole"]), RunUsage()

    assert await text(retrying(client, usage)) == "whole"

    assert (client.asked, usage.llm_retry_count) == (3, 2)


@pytest.mark.parametrize(
    ("error", "options", "asked"),
    [
        (LLMResponseError(), {}, 1),
        (LLMConnectionError(), {"max_attempts": 2}, 2),
        (LLMConnectionError(), {"retry_on_connection_errors": False}, 1),
        (LLMRateLimitError(), {"retry_on_connection_errors": False, "max_attempts": 2}, 2),
        (LLMRateLimitError(retry_after_ms=60_000), {"total_budget_ms": 59_000}, 1),
    ],
)
async def test_errors_are_raised_when_no_request_more_is_worth_it(
    error: LLMError, options: dict[str, Any], asked: int
) -> None:
    client = Scripted(*([error] for _ in range(5)))

    with pytest.raises(type(error)) as caught:
        await text(retrying(client, **options))

    assert caught.value is error
    assert client.asked == asked


async def test_nothing_is_repeated_once_a_part_of_the_answer_was_handed_on() -> None:
    client = Scripted(["w", LLMConnectionError()], ["whole"])

    with pytest.raises(LLMConnectionError):
        await text(retrying(client))

    assert client.asked == 1


async def test_what_the_provider_asked_for_is_waited_for() -> None:
    client = Scripted([LLMRateLimitError(retry_after_ms=120)], [])
    started = time.monotonic()

    await text(retrying(client))

    assert time.monotonic() - started >= 0.12


async def test_a_wait_beyond_the_deadline_of_the_run_is_not_begun() -> None:
    client = Scripted([LLMRateLimitError(retry_after_ms=60_000)])

    with pytest.raises(LLMRateLimitError):
        await text(retrying(client, left=59.0))


async def test_a_wait_can_be_cancelled() -> None:
    client = Scripted([LLMRateLimitError(retry_after_ms=60_000)])

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await text(retrying(client))

    assert client.asked == 1


async def test_who_lost_the_lease_while_it_waited_asks_no_more() -> None:
    async def lost() -> None:
        raise LeaseLost

    client = Scripted([LLMConnectionError()], [])

    with pytest.raises(LeaseLost):
        await text(retrying(client, guard=lost))

    assert client.asked == 1


def test_the_backoff_grows_up_to_its_maximum() -> None:
    options = LLMRetryOptions(initial_backoff_ms=100, max_backoff_ms=300, backoff_multiplier=2.0)

    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.3), (10_000, 0.3)):
        waits = [backoff(options, attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


async def test_a_run_counts_its_retries_and_gives_up_before_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Scripted([LLMConnectionError()], [])
    monkeypatch.setattr("runtime_core.llm.clients.create_client", lambda _: client)
    llm = {"provider": "mock", "retry": QUICK}

    result = await runtime(llm=llm).run_detailed(run_request())

    assert (result.final_output, result.usage.llm_retry_count, result.usage.llm_calls) == ("whole", 1, 1)

    client.script = [[LLMRateLimitError(retry_after_ms=60_000)]]
    result = await runtime(llm=llm).run_detailed(run_request(budget=RunBudget(max_duration_ms=30_000)))

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "llm.rate_limit"
