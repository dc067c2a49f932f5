"""submit, cancel, refuse: what a producer may do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from runtime_core.contracts.run import ErrorDetails, RunRequest, RunState, StopReason
from runtime_core.errors import ConfigError, InvalidInputError, QueueFull, RunConflict, RunlaneError, RunNotFound
from runtime_core.ids import ScopedRunId
from runtime_core.store.meta import open_store
from runtime_core.store.runs import CancelOutcome, RunStore, Submitted
from tests.integration.store.conftest import Store


async def test_an_accepted_run_is_queued_with_a_record_a_first_chunk_and_a_doorbell(store: Store) -> None:
    run = await store.submit("r1")

    record = await store.runs.get(run)
    assert (record.state, record.sequence, record.attempt) == (RunState.QUEUED, 1, 0)
    assert await store.events("r1") == [(1, 0, "run.queued")]
    assert await store.bells() == ["r1"]


async def test_only_the_head_of_a_session_has_a_doorbell(store: Store) -> None:
    await store.submit("r1", "s1")
    await store.submit("r2", "s1")
    await store.submit("r3", "s2")

    assert await store.bells() == ["r1", "r3"]


async def test_the_same_request_again_is_the_same_run(store: Store) -> None:
    request = RunRequest(agent_id="a", session_id="s", input_text="hi", run_id="r1")
    first = await store.runs.submit(request)
    hinted = request.model_copy(update={"context_hints": {"__trace__": "other"}})
    again = await store.runs.submit(hinted)

    assert (first.created, again.created) == (True, False)
    assert await store.bells() == ["r1"]


@pytest.mark.parametrize("change", [{"input_text": "other"}, {"session_id": "other"}, {"metadata": {"k": 1}}])
async def test_the_same_run_id_with_another_request_is_a_conflict(store: Store, change: dict[str, object]) -> None:
    await store.submit("r1")
    request = RunRequest(agent_id="a", session_id="s", input_text="hi", run_id="r1")

    with pytest.raises(RunConflict, match="taken by another request"):
        await store.runs.submit(request.model_copy(update=change))


async def test_two_tenants_may_use_the_same_names(store: Store) -> None:
    request = RunRequest(agent_id="a", session_id="s", input_text="hi", run_id="r1")
    ours = await store.runs.submit(request, tenant="ours")
    theirs = await store.runs.submit(request, tenant="theirs")

    assert ours.created
    assert theirs.created
    assert sorted(await store.bells()) == ["ours/r1", "theirs/r1"]
    assert (await store.runs.get(ours.run)).tenant == "ours"


async def test_submit_many_gives_one_outcome_per_item_and_keeps_their_order(store: Store) -> None:
    await store.submit("taken", "s0")
    requests = [
        RunRequest(agent_id="a", session_id="s", input_text="1", run_id="m1"),
        RunRequest(agent_id="a", session_id="s", input_text="2", run_id="taken"),
        RunRequest(agent_id="a", session_id="s", input_text="3", run_id="m3", deps=object()),
        RunRequest(agent_id="a", session_id="s", input_text="4", run_id="m4"),
    ]

    first, taken, with_deps, last = await store.runs.submit_many(requests)

    assert isinstance(first, Submitted)
    assert isinstance(taken, RunConflict)
    assert isinstance(with_deps, InvalidInputError)
    assert isinstance(last, Submitted)
    assert await store.redis.lrange("rl:{p0000}:mailbox:default/s", 0, -1) == ["m1", "m4"]


async def test_a_request_that_json_cannot_hold_is_refused(store: Store) -> None:
    request = RunRequest(agent_id="a", session_id="s", input_text="hi", metadata={"lock": object()})
    with pytest.raises(InvalidInputError, match="cannot be written as JSON"):
        await store.runs.submit(request)


def test_an_unknown_field_is_named_with_a_near_match() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'input_text'"):
        RunRequest.model_validate({"agent_id": "a", "session_id": "s", "input_txt": "x"})


async def test_a_store_with_another_number_of_partitions_is_refused(store: Store) -> None:
    await store.submit("r1")
    with pytest.raises(ConfigError, match="1 partitions"):
        await RunStore(store.redis, 2).submit(RunRequest(agent_id="a", session_id="s", input_text="hi"))
    with pytest.raises(ConfigError, match="RUNLANE_PARTITIONS=1"):
        await open_store(store.redis, 8)
    assert await open_store(store.redis) == 1


async def test_a_cancelled_queued_run_ends_at_once_and_lets_the_next_one_ring(store: Store) -> None:
    await store.submit("r1")
    await store.submit("r2")

    assert await store.runs.cancel(ScopedRunId("r1")) is CancelOutcome.CANCELLED

    record = await store.runs.get(ScopedRunId("r1"))
    assert record.status is StopReason.CANCELLED
    assert record.result is not None
    assert record.result.stop_reason is StopReason.CANCELLED
    assert await store.events("r1") == [(1, 0, "run.queued"), (2, 0, "run.finished")]
    assert await store.bells() == ["r1", "r2"]
    assert await store.runs.cancel(ScopedRunId("r1")) is CancelOutcome.FINISHED


async def test_cancelling_a_queued_run_behind_the_head_rings_nobody(store: Store) -> None:
    await store.submit("r1")
    await store.submit("r2")
    await store.runs.cancel(ScopedRunId("r2"))
    assert await store.bells() == ["r1"]


async def test_an_unknown_run_is_not_found(store: Store) -> None:
    for verb in (store.runs.get, store.runs.cancel, store.runs.locate):
        with pytest.raises(RunNotFound, match="there is no run 'nobody'"):
            await verb(ScopedRunId("nobody"))


async def test_a_refused_request_is_found_by_its_id_with_its_error_and_expires(store: Store) -> None:
    error = ErrorDetails(code="user.invalid_input", message="no agent_id")
    run = await store.runs.refuse(tenant="default", run_id="c1", session_id="refused-c1", agent_id="", error=error)

    record = await store.runs.get(run)
    assert record.status is StopReason.FAILED
    assert record.result is not None
    assert record.result.error_details == error
    assert await store.events("c1") == [(1, 0, "run.finished")]
    assert [key async for key in store.redis.scan_iter("*c1*") if await store.redis.ttl(key) < 0] == []


async def test_a_refusal_never_overwrites_a_run(store: Store) -> None:
    await store.submit("r1")
    error = ErrorDetails(code="user.invalid_input", message="x")
    await store.runs.refuse(tenant="default", run_id="r1", session_id="s", agent_id="a", error=error)
    assert (await store.runs.get(ScopedRunId("r1"))).state is RunState.QUEUED


def test_only_errors_that_may_pass_are_retryable() -> None:
    assert QueueFull(retry_after_ms=5).to_dict()["retry_after_ms"] == 5
    assert QueueFull.retryable
    assert not RunConflict.retryable
    assert not RunlaneError.retryable
