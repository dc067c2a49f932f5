"""Durable runs in process: what a later try of the same run does again, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.contracts.run import RunBudget, RunResult, StopReason
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from tests.unit.durable_plugins import COUNTS
from tests.unit.kernel_setup import config, counted, names, recorded, request

__all__ = ["counted"]  # a fixture is used by its name

PLUGINS = "tests.unit.durable_plugins"
TOOLS = [{"id": "note", "impl": f"{PLUGINS}.Note"}]


def host(pattern: str = "Steps", **options: Any) -> Runtime:
    return Runtime.from_dict(config(pattern={"impl": f"{PLUGINS}.{pattern}", "config": options}, tools=TOOLS))


async def run(runtime: Runtime, *, durable: bool = True, **fields: Any) -> tuple[RunResult, list[RuntimeEvent]]:
    return await recorded(runtime, request(durable=durable, **fields))


def notes() -> dict[str, int]:
    return {name: count for name, count in COUNTS.items() if name.startswith("note")}


async def test_a_retryable_error_resumes_and_nothing_is_done_twice() -> None:
    result, events = await run(host(fails_at=2), run_id="r")

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert notes() == {"note 0": 1, "note 1": 1, "note 2": 1, "note 3": 1}
    assert [said for said in result.final_output if isinstance(said, dict)] == [
        {"noted": step, "count": 1} for step in range(4)
    ]
    assert [artifact.name for artifact in result.artifacts] == [f"note {step}" for step in range(4)]
    saved = [event.payload["checkpoint_id"] for event in events if event.name == "run.checkpoint_saved"]
    assert saved == [f"r:step:{number}" for number in range(1, 9)]


async def test_readers_see_a_resumed_run_once() -> None:
    _, events = await run(host(fails_at=2))

    seen = [event.payload["params"]["step"] for event in events if event.name == "tool.called"]
    assert seen == [0, 1, 2, 3]
    assert names(events).count("llm.succeeded") == 4
    resumed = [event for event in events if event.name.startswith("run.resume")]
    assert names(resumed) == ["run.resume_attempted", "run.resume_succeeded"]
    behind = names(events)[names(events).index("run.resume_attempted") :]
    assert behind.index("run.resume_succeeded") < behind.index("tool.called")


async def test_usage_is_counted_once_and_cumulative() -> None:
    plain, _ = await run(host(), session="plain")
    resumed, _ = await run(host(fails_at=2))

    for name in ("llm_calls", "tool_calls", "input_tokens", "output_tokens"):
        assert getattr(resumed.usage, name) == getattr(plain.usage, name), name
    assert resumed.usage.llm_latency_p95_ms


async def test_the_session_state_is_as_if_nothing_had_happened() -> None:
    runtime = host(fails_at=3)
    await run(runtime)

    state = await runtime.session_manager.get_state("s")
    assert state["notes"] == [0, 1, 2, 3]
    assert state["steps"] == 4


async def test_a_batch_is_one_step_and_its_failures_are_not_repeated() -> None:
    result, events = await run(host("Batch"))

    assert result.final_output[0] == "{'noted': 0, 'count': 1}"
    assert result.final_output[1].startswith("step 1 fails")
    assert notes() == {"note 0": 1, "note 1": 1, "note 2": 1}
    assert names(events).count("run.checkpoint_saved") == 1


async def test_what_fails_again_and_again_is_given_up_on() -> None:
    budget = RunBudget(max_resume_attempts=2)

    result, events = await run(host(fails_at=1, times=99), budget=budget)

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "llm.connection"
    assert names(events).count("run.resume_attempted") == 2
    (exhausted,) = [event.payload for event in events if event.name == "run.resume_exhausted"]
    assert (exhausted["limit"], exhausted["attempt_index"]) == (2, 3)
    assert result.usage.tool_calls == 2


async def test_a_run_that_is_not_durable_is_not_resumed() -> None:
    result, events = await run(host(fails_at=2), durable=False)

    assert result.stop_reason is StopReason.FAILED
    assert not [name for name in names(events) if name.startswith(("run.checkpoint", "run.resume"))]


async def test_a_run_resumes_from_a_checkpoint_that_its_request_names() -> None:
    runtime = host(fails_at=2, times=1)
    failed, _ = await run(runtime, run_id="first", budget=RunBudget(max_resume_attempts=0))
    assert failed.stop_reason is StopReason.FAILED

    result, events = await run(runtime, run_id="second", resume_from_checkpoint="first:step:4")

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert notes() == {"note 0": 1, "note 1": 1, "note 2": 2, "note 3": 1}
    assert "memory.inject.started" not in names(events)
    saved = [event.payload["checkpoint_id"] for event in events if event.name == "run.checkpoint_saved"]
    assert saved[0] == "second:step:5"


async def test_a_run_resumes_from_a_step_of_one_that_had_resumed(caplog: pytest.LogCaptureFixture) -> None:
    runtime = host()
    await run(runtime, run_id="first")
    await run(runtime, run_id="second", resume_from_checkpoint="first:step:4")
    COUNTS.clear()

    result, _ = await run(runtime, run_id="third", resume_from_checkpoint="second:step:6")

    assert notes() == {"note 3": 1}
    assert (result.usage.llm_calls, result.usage.tool_calls) == (4, 4)
    assert "does not repeat itself" not in caplog.text


async def test_a_run_that_has_resumed_from_another_needs_that_one_no_more() -> None:
    runtime = host()
    await run(runtime, run_id="first")
    await run(runtime, run_id="second", resume_from_checkpoint="first:step:4")
    for _ in range(99):  # the session keeps the steps of 100 runs
        await run(runtime)
    assert not await runtime.session_manager.load_steps("s", "first")

    again, _ = await run(runtime, run_id="second", resume_from_checkpoint="first:step:4")

    assert again.stop_reason is StopReason.COMPLETED, again.error_details


async def test_a_checkpoint_of_the_session_is_no_step_to_resume_from() -> None:
    runtime = host(steps=1)
    await run(runtime, run_id="first")
    await runtime.session_manager.create_checkpoint("s", "mine")

    result, _ = await run(runtime, run_id="second", resume_from_checkpoint="mine")

    assert result.error_details is not None
    assert result.error_details.hint == "Available, newest last: first:step:1, first:step:2"


@pytest.mark.parametrize("number", ["9", "9" * 5_000])
async def test_an_unknown_checkpoint_is_named_with_those_that_there_are(number: str) -> None:
    runtime = host(steps=1)
    await run(runtime, run_id="first")

    result, _ = await run(runtime, run_id="second", resume_from_checkpoint=f"first:step:{number}")

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "config.error"
    assert "first:step:1, first:step:2" in (result.error_details.hint or "")


async def test_a_tool_that_is_not_idempotent_warns_once() -> None:
    _, events = await run(host())

    warned = [event.payload["tool_id"] for event in events if event.name == "run.durable_idempotency_warning"]
    assert warned == ["note"]


async def test_a_step_costs_the_same_at_the_end_as_at_the_beginning() -> None:
    runtime = host(steps=30)
    await run(runtime, run_id="long")

    steps = await runtime.session_manager.load_steps("s", "long")
    sizes = [len(delta) for _, delta in sorted(steps.items())]
    assert len(sizes) == 60
    assert max(sizes[-2:]) < 1.5 * max(sizes[2:4])
