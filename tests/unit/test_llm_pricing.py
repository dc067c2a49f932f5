"""What requests cost, and runs that may cost only so much."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.config.schema import LLMPricing
from runtime_core.contracts.run import RunBudget, RunUsage, StopReason
from runtime_core.errors import BudgetExhausted
from runtime_core.llm.pricing import cost_of
from runtime_core.llm.protocol import LLMUsage
from runtime_core.llm.usage import check_cost_budget, record_llm_call
from tests.unit.kernel_setup import names, recorded, request, runtime

#: The mock counts a token per four characters: a run of these costs some cents.
PRICED = {"provider": "mock", "pricing": {"input": 100.0, "output": 1000.0}}
UNPRICED = {"provider": "mock"}


def test_cached_tokens_have_prices_of_their_own() -> None:
    usage = LLMUsage(
        input_tokens=1_000_000, output_tokens=100_000, cached_tokens=300_000, cache_creation_tokens=200_000
    )

    cost = cost_of(usage, LLMPricing(input=2.0, output=10.0, cached_read=0.1, cached_write=3.0))

    assert cost == {
        "input": pytest.approx(1.0),
        "output": pytest.approx(1.0),
        "cached_read": pytest.approx(0.03),
        "cached_write": pytest.approx(0.6),
    }


def test_the_cost_is_unknown_if_a_price_is_missing_that_is_needed() -> None:
    pricing = LLMPricing(input=1.0, output=1.0)

    assert cost_of(LLMUsage(input_tokens=5, output_tokens=5), pricing) is not None
    assert cost_of(LLMUsage(input_tokens=5, output_tokens=5, cached_tokens=1), pricing) is None


def call(cost: float | None) -> LLMUsage:
    return LLMUsage(metadata={"cost_usd": cost, "cost_breakdown": {} if cost is None else {"input": cost}})


def test_a_run_costs_the_sum_of_its_requests_and_is_unknown_from_the_first_unknown_one_on() -> None:
    usage, costs = RunUsage(), list[float | None]()

    for cost in (0.5, 0.25, None, 1.0):
        record_llm_call(usage, call(cost), [], latency_ms=1.0, ttft_ms=None)
        costs.append(usage.cost_usd)

    assert costs == [0.5, 0.75, None, None]
    assert usage.cost_breakdown == {"input": 1.75}


@pytest.mark.parametrize(
    ("cost", "limit", "spent", "allowed"),
    [
        (None, 0.0, False, False),
        (0.5, 0.5, False, False),
        (0.5, 0.5, True, True),
        (0.6, 0.5, True, False),
        (0.4, 0.5, False, True),
        (9.0, None, False, True),
    ],
)
def test_the_budget_is_checked_before_and_after(
    cost: float | None, limit: float | None, spent: bool, allowed: bool
) -> None:
    usage = RunUsage(cost_usd=cost, llm_calls=0 if cost is None else 1)
    refused = False

    try:
        check_cost_budget(RunBudget(max_cost_usd=limit), usage, spent=spent)
    except BudgetExhausted:
        refused = True

    assert refused is not allowed


async def test_a_run_says_what_it_cost_by_kind_of_token() -> None:
    result = await runtime(llm=PRICED).run_detailed(request("four tokens, more or less"))

    usage = result.usage
    expected = {"input": usage.input_tokens * 1e-4, "output": usage.output_tokens * 1e-3}
    assert usage.cost_breakdown == pytest.approx(expected | {"cached_read": 0.0, "cached_write": 0.0})
    assert usage.cost_usd == pytest.approx(sum(expected.values()))
    assert sum(expected.values()) > 0


async def test_a_run_without_prices_has_no_cost() -> None:
    assert (await runtime().run_detailed(request())).usage.cost_usd is None


@pytest.mark.parametrize(("limit", "calls"), [(0.0, 0), (1e-6, 1)])
async def test_a_run_that_costs_too_much_is_ended(limit: float, calls: int) -> None:
    result, events = await recorded(runtime(llm=PRICED), request(budget=RunBudget(max_cost_usd=limit)))

    assert (result.stop_reason, result.usage.llm_calls) == (StopReason.BUDGET_EXHAUSTED, calls)
    assert result.error_details is not None
    assert result.error_details.code == "execution.budget_exhausted"
    assert names(events).count("llm.called") == calls


@pytest.mark.parametrize(
    ("llm", "reason"),
    [
        (UNPRICED, "the agent has no llm.pricing"),
        (UNPRICED | {"pricing": {"input": 1.0}}, "llm.pricing lacks a price that is needed"),
    ],
)
async def test_a_limit_on_the_cost_that_cannot_be_checked_is_said_once(llm: dict[str, Any], reason: str) -> None:
    run = request("/tool calc 1+1", budget=RunBudget(max_cost_usd=0.5))

    result, events = await recorded(runtime(llm=llm), run)

    assert result.usage.llm_calls == 2
    skipped = [event.payload for event in events if event.name == "budget.cost_skipped"]
    assert skipped == [{"limit": 0.5, "reason": reason}]
