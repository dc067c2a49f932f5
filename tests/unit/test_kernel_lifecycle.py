"""One run in order, its events and its chunks."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from runtime_core.contracts.run import RunBudget, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind as Kind
from runtime_core.errors import AgentNotFoundError, ConfigError, RunFailedError
from runtime_core.kernel.runtime import Runtime
from tests.unit.kernel_setup import config, names, plugin, recorded, request, runtime


async def test_a_run_emits_its_events_in_the_order_that_plugins_rely_on() -> None:
    result, events = await recorded(runtime(), request())

    assert result.final_output == "Echo: hello (history=0)"
    assert [name for name in names(events) if name != "llm.delta"] == [
        "run.started",
        "run.requested",
        "session.run.started",
        "run.validated",
        "session.acquired",
        "context.assemble.started",
        "context.assemble.completed",
        "context.created",
        "memory.inject.started",
        "memory.injected",
        "memory.inject.completed",
        "pattern.step_started",
        "llm.called",
        "llm.succeeded",
        "usage.updated",
        "pattern.step_finished",
        "memory.writeback.started",
        "memory.writeback_succeeded",
        "memory.writeback.completed",
        "run.completed",
        "session.run.completed",
    ]


async def test_every_event_of_a_run_carries_its_ids_attempt_and_config_version() -> None:
    run = request(parent_run_id="parent")

    _, events = await recorded(runtime(), run)

    stamps = {(event.ids and event.ids.run_id, event.attempt, event.config_version) for event in events}
    assert stamps == {(run.run_id, 2, 7)}
    assert {event.ids and event.ids.parent_run_id for event in events} == {"parent"}


async def test_chunks_are_dense_and_the_terminal_chunk_alone_carries_the_result() -> None:
    chunks = [chunk async for chunk in runtime().run_stream(request("/tool calc 6*7"))]

    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk.kind for chunk in chunks if chunk.kind is not Kind.LLM_DELTA] == [
        Kind.RUN_STARTED,
        Kind.LLM_FINISHED,
        Kind.TOOL_STARTED,
        Kind.TOOL_FINISHED,
        Kind.LLM_FINISHED,
        Kind.RUN_FINISHED,
    ]
    assert [chunk.result is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].payload == {"stop_reason": "completed"}
    assert "42" in "".join(chunk.payload["text"] for chunk in chunks if chunk.kind is Kind.LLM_DELTA)


async def test_a_request_without_stream_has_every_chunk_but_deltas() -> None:
    chunks = [chunk async for chunk in runtime().run_stream(request(stream=False))]

    assert [chunk.kind for chunk in chunks] == [Kind.RUN_STARTED, Kind.LLM_FINISHED, Kind.RUN_FINISHED]
    assert chunks[1].payload["output_text"] == "Echo: hello (history=0)"


async def test_a_stream_of_an_unknown_agent_ends_in_a_failed_result() -> None:
    chunks = [chunk async for chunk in runtime(agent_id="assistant").run_stream(request(agent="assistent"))]

    result = chunks[-1].result
    assert result is not None
    assert result.error_details is not None
    assert result.error_details.code == "user.agent_not_found"
    assert result.error_details.hint == "Did you mean 'assistant'? Available agent ids: ['assistant']"


async def test_run_detailed_raises_for_an_unknown_agent() -> None:
    with pytest.raises(AgentNotFoundError, match="there is no agent 'b'") as caught:
        await runtime().run_detailed(request(agent="b"))

    assert isinstance(caught.value, ConfigError)


async def test_leaving_the_stream_cancels_the_run() -> None:
    host = runtime(pattern=plugin("Waiting"))
    stream = host.run_stream(request())

    first = await anext(stream)
    await stream.aclose()

    assert first.kind is Kind.RUN_STARTED
    async with asyncio.timeout(1), host.session_manager.session("s"):
        pass  # the cancelled run has left its session


async def test_usage_adds_up_over_the_calls_of_a_run() -> None:
    result = await runtime().run_detailed(request("/tool calc 1+1"))

    assert (result.usage.llm_calls, result.usage.tool_calls) == (2, 1)
    assert result.usage.total_tokens == result.usage.input_tokens + result.usage.output_tokens > 0
    assert result.usage.llm_latency_p50_ms is not None
    assert result.usage.ttft_ms is not None


async def test_the_transcript_gets_the_exchange_of_each_run_and_marks_failures() -> None:
    host = runtime(pattern=plugin("Raising", raises="value"))

    await host.run_detailed(request("first", run_id="r1"))

    user, assistant = await host.session_manager.load_messages("s")
    assert user == {"role": "user", "content": "first", "run_id": "r1", "agent_id": "a"}
    assert (assistant["content"], assistant["is_error"], assistant["stop_reason"]) == (
        "ValueError: wrong value",
        True,
        "failed",
    )


async def test_artifacts_are_announced_returned_and_kept_in_the_session() -> None:
    host = runtime(pattern=plugin("Artifacts"))

    result, events = await recorded(host, request())

    assert [artifact.name for artifact in result.artifacts] == ["report", "late"]
    assert [event.payload["name"] for event in events if event.name == "artifact.emitted"] == ["report", "late"]
    assert names(events).index("artifact.emitted") < names(events).index("pattern.phase")
    assert [artifact.name for artifact in await host.session_manager.list_artifacts("s")] == ["report", "late"]


async def test_an_agent_without_a_model_echoes() -> None:
    assert await runtime(llm=None).run(agent_id="a", session_id="s", input_text="hi") == "Echo: hi"


async def test_an_output_that_does_not_validate_is_tried_again() -> None:
    result, events = await recorded(runtime(pattern=plugin("Validating")), request())

    assert result.final_output == 3
    assert [event.payload for event in events if event.name == "validation.retry"] == [
        {"attempt": 1, "error": "1 is too small"},
        {"attempt": 2, "error": "2 is too small"},
    ]


async def test_validation_retries_are_limited() -> None:
    host = runtime(pattern=plugin("Validating"))

    result = await host.run_detailed(request(budget=RunBudget(max_validation_retries=1)))

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "execution.output_validation"


class Answer(BaseModel):
    value: int


async def test_an_output_type_that_the_answer_does_not_fit_fails_the_run() -> None:
    result = await runtime().run_detailed(request(output_type=Answer, budget=RunBudget(max_validation_retries=0)))

    assert result.error_details is not None
    assert result.error_details.code == "execution.output_validation"
    assert "Answer" in result.error_details.message
    assert result.error_details.cause is not None
    assert result.error_details.cause.code == "llm.model_retry"


async def test_budgets_end_a_run_with_their_own_stop_reason() -> None:
    steps = await runtime().run_detailed(request("/tool calc 1+1", budget=RunBudget(max_steps=1)))
    calls = await runtime(pattern=plugin("ThreeCalls")).run_detailed(request(budget=RunBudget(max_tool_calls=2)))

    assert steps.stop_reason is StopReason.MAX_STEPS
    assert calls.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert calls.usage.tool_calls == 2


async def test_a_run_that_exceeds_its_duration_times_out() -> None:
    host = runtime(pattern=plugin("Waiting"))

    result = await host.run_detailed(request(budget=RunBudget(max_duration_ms=20)))

    assert result.stop_reason is StopReason.TIMEOUT
    assert result.error_details is not None
    assert "longer than its 20 ms" in result.error_details.message


async def test_step_timeout_ms_of_an_agent_caps_the_whole_run() -> None:
    host = runtime(pattern=plugin("Waiting"), runtime={"step_timeout_ms": 20})

    assert (await host.run_detailed(request())).stop_reason is StopReason.TIMEOUT


async def test_run_raises_when_the_run_failed() -> None:
    with pytest.raises(RunFailedError, match="wrong value") as caught:
        await runtime(pattern=plugin("Raising", raises="value")).run(agent_id="a", session_id="s", input_text="x")

    assert caught.value.code == "pattern.error"


async def test_the_callers_request_stays_as_it_is() -> None:
    schema = {"type": "object", "properties": {"word": {"type": "string"}}}
    asked = request(output_type=schema, context_hints={"mine": 1})

    await runtime().execute(asked)

    assert asked == request(run_id=asked.run_id, output_type=schema, context_hints={"mine": 1})


def test_run_sync_works_again_and_again_without_a_loop() -> None:
    host = runtime()

    answers = [host.run_sync(agent_id="a", session_id="s", input_text=text) for text in ("one", "two")]
    host.close_sync()

    assert answers == ["Echo: one (history=0)", "Echo: two (history=1)"]


async def test_a_runtime_plugin_replaces_the_lifecycle() -> None:
    host = Runtime.from_dict(config() | {"runtime": plugin("OwnRuntime")})

    assert (await host.run_detailed(request())).final_output == [["a"], 1]


async def test_a_runtime_plugin_that_returns_something_else_is_a_type_error() -> None:
    host = Runtime.from_dict(config() | {"runtime": plugin("WrongRuntime")})

    with pytest.raises(TypeError, match="WrongRuntime must return a RunResult, it returned a dict"):
        await host.run_detailed(request())


async def test_agents_can_be_listed_and_described() -> None:
    host = runtime()
    await host.run_detailed(request())

    info = await host.get_agent_info("a")

    assert await host.list_agents() == [{"id": "a", "name": "Agent"}]
    assert await host.get_agent_info("b") is None
    assert info is not None
    assert info["memory"] == {"type": "window_buffer", "impl": None}
    assert info["loaded_plugins"]["pattern"] == "ReactPattern"
    assert host.get_session_count() == 1
    assert host.problems_of(host.config) == []
