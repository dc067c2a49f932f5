"""Runs that take durable steps, wait for a person or for a child, while workers come and go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from producer.handle import RunHandle
from runtime_core.contracts.host import Approval
from runtime_core.contracts.run import RunBudget, RunState, StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.errors import RunConflict
from tests.acceptance.command import Command
from tests.integration.fleet.conftest import Fleet, request, wait_until
from tests.integration.fleet.waiting_plugins import Fact

_PLUGINS = "tests.integration.fleet.waiting_plugins"


def agent(name: str, pattern: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "memory": {"type": "buffer"},
        "pattern": {"impl": f"{_PLUGINS}.{pattern}", "config": fields.pop("config", {})},
        "llm": {"provider": "mock"},
        **fields,
    }


AGENTS = [
    agent("steps", "Steps", tools=[{"id": "note", "impl": f"{_PLUGINS}.Note"}]),
    agent("deeper", "Deeper"),
    agent("sharing", "Deeper", config={"isolation": "shared"}),
    agent("sharing-steps", "Deeper", config={"isolation": "shared", "to": "steps"}),
    agent("forking", "Deeper", config={"isolation": "forked"}),
    agent("facts", "Facts"),
    {
        **agent("impatient", "Steps"),
        "pattern": {"type": "react"},
        "tools": [{"id": "do", "impl": f"{_PLUGINS}.Impatient"}],
    },
    {**agent("careful", "Steps"), "pattern": {"type": "react"}, "tools": [{"id": "do", "impl": f"{_PLUGINS}.Careful"}]},
]


@pytest.fixture
def waiting(fleet: Fleet) -> Fleet:
    config = {"agents": AGENTS, "multi_agent": {"enabled": True, "max_delegation_depth": 10}}
    (fleet.folder / "agents.yaml").write_text(yaml.safe_dump(config))
    return fleet


def kill(fleet: Fleet, number: int = 0) -> None:
    """SIGKILL a worker by the pid that its plugins journal: that of the process which executes runs."""
    worker = fleet.workers[number]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)


async def asked(handle: RunHandle) -> Approval:
    """The open question of a run that waits."""
    found: list[Approval] = []

    async def asks() -> bool:
        found[:] = [approval for approval in await handle.approvals() if approval.decision is None]
        return bool(found)

    await wait_until(asks, "the run asks for a person")
    return found[0]


async def test_a_durable_run_of_ten_steps_outlives_its_worker(waiting: Fleet) -> None:
    await waiting.start(1)
    handle = await waiting.client.submit(request("10 0.15", agent="steps", durable=True))
    await wait_until(lambda: sum(line["what"] == "note" for line in waiting.journal()) >= 5, "it is in its fifth step")
    kill(waiting)
    await waiting.start(1)

    result = await handle.result(timeout=40)

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert result.final_output["attempt"] == 2
    assert result.final_output["state"] == 10
    assert result.final_output["said"] == [f"Echo: step {step} (history=0)" for step in range(10)]
    chunks = [chunk async for chunk in handle.stream()]
    told = _steps_told(chunks)
    assert list(told) == list(range(1, 21)), "two a step, none twice, none left out"
    calls = Counter(line["step"] for line in waiting.journal() if line["what"] == "note")
    assert set(calls) == set(range(10))
    again = {step for step, count in calls.items() if count > 1}
    assert not again & _written_by_the_first_attempt(told), "a tool was called again after its step was written"
    assert 20 <= result.usage.llm_calls + result.usage.tool_calls <= 22
    assert [chunk.kind for chunk in chunks].count(RunStreamChunkKind.RESUME_SUCCEEDED) == 1


def _steps_told(chunks: list[RunStreamChunk]) -> dict[int, int]:
    """Number of each durable step that readers are told of → the attempt that wrote it, in the order of their telling.

    A worker may die between a step and its ``run.checkpoint_saved``; then the next attempt says that it resumes there.
    """
    told: dict[int, int] = {}
    for chunk in chunks:
        if chunk.kind is RunStreamChunkKind.CHECKPOINT_SAVED:
            assert chunk.payload["step_index"] not in told
            told[chunk.payload["step_index"]] = chunk.attempt
        elif chunk.kind is RunStreamChunkKind.RESUME_ATTEMPTED:
            told.setdefault(int(chunk.payload["checkpoint_id"].rpartition(":")[2]), chunk.attempt - 1)
    return told


def _written_by_the_first_attempt(told: Mapping[int, int]) -> set[int]:
    """Steps of the agent: every second durable step is one behind a tool."""
    return {number // 2 - 1 for number, attempt in told.items() if number % 2 == 0 and attempt == 1}


async def test_a_worker_with_one_slot_serves_five_runs_that_wait_for_each_other(waiting: Fleet) -> None:
    await waiting.start(1, RUNLANE_CONCURRENCY="1")
    handle = await waiting.client.submit(request("5 0", agent="deeper"))

    result = await handle.result(timeout=30)

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert result.usage.tool_calls == 1, "what a child spends counts against its parents"
    assert [line["depth"] for line in waiting.journal() if line["what"] == "deep"] == [5, 4, 3, 2, 1, 0]
    chunks = [chunk async for chunk in handle.stream(children=True)]
    assert len({chunk.run_id for chunk in chunks}) == 6, "the parent's stream carries its family on request"


async def test_a_parent_whose_worker_was_killed_finds_the_same_child(waiting: Fleet) -> None:
    await waiting.start(1, RUNLANE_CONCURRENCY="3")
    handles = [
        await waiting.client.submit(request("1 1.5", session=agent_id, agent=agent_id))
        for agent_id in ("deeper", "forking", "sharing")
    ]
    await wait_until(lambda: len(_at_the_bottom(waiting)) == 3, "the children execute")
    for handle in handles[:2]:  # the shared child executes within its parent, which does not wait
        record = await handle.get()
        assert (record.state, (record.waiting_for or "").partition(":")[0]) == (RunState.RUNNING, "run")
    kill(waiting)
    await waiting.start(1, RUNLANE_CONCURRENCY="3")

    results = [await handle.result(timeout=40) for handle in handles]

    assert [result.stop_reason for result in results] == [StopReason.COMPLETED] * 3
    assert {result.final_output["child"] for result in results} == _at_the_bottom(waiting)
    for result in results:
        child = await waiting.client.get(result.final_output["child"])
        assert (child.state, child.attempt) == (RunState.FINISHED, 2)


def _at_the_bottom(fleet: Fleet) -> set[str]:
    return {line["run"] for line in fleet.journal() if line.get("depth") == 0}


async def test_a_durable_child_in_its_parents_session_outlives_its_worker(waiting: Fleet) -> None:
    await waiting.start(1)
    handle = await waiting.client.submit(request("4 0.3", agent="sharing-steps", durable=True))
    await wait_until(lambda: sum(line["what"] == "note" for line in waiting.journal()) >= 2, "it is in its second step")
    kill(waiting)
    await waiting.start(1)

    result = await handle.result(timeout=40)

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    child = result.final_output["child"]
    chunks = [chunk async for chunk in waiting.client.stream(child)]
    told = _steps_told(chunks)
    assert list(told) == list(range(1, 9))
    calls = Counter(line["step"] for line in waiting.journal() if line["what"] == "note")
    again = {step for step, count in calls.items() if count > 1}
    assert not again & _written_by_the_first_attempt(told), "a tool was called again after its step was written"
    assert (await waiting.client.get(child)).attempt == 2


async def test_a_child_is_cancelled_when_its_parents_time_is_up(waiting: Fleet) -> None:
    await waiting.start(1)
    budget = RunBudget(max_duration_ms=1_000)

    result = await waiting.client.run_detailed(request("1 60", agent="deeper", budget=budget), timeout=20)

    assert result.stop_reason is StopReason.TIMEOUT
    (child,) = _at_the_bottom(waiting)
    assert (await waiting.client.result(child, timeout=5)).stop_reason is StopReason.CANCELLED


async def test_an_approval_after_a_restart_of_its_worker_goes_on_from_there(waiting: Fleet) -> None:
    await waiting.start(1)
    handle = await waiting.client.submit(request("/tool do it", agent="careful", budget=RunBudget(max_tool_calls=1)))
    behind = await waiting.client.submit(request("hello", agent="careful"))
    before = await asked(handle)
    assert (await handle.get()).waiting_for == f"approval:{before.call_id}"
    waiting.workers[0].stop(within=10)
    assert waiting.workers[0].exit_code != -signal.SIGKILL, "who waits is handed over at once, long before the grace"
    await waiting.start(1)
    after = await asked(handle)
    assert after == before
    assert (await behind.get()).state is RunState.QUEUED, "the session's next runs wait"

    await handle.approve(after.call_id, "allow")
    result = await handle.result(timeout=20)

    assert result.final_output == "do says: did it"
    assert [line["attempt"] for line in waiting.journal() if line["what"] == "careful"] == [2]
    assert result.usage.llm_calls == 2, "the model was not asked again for what it had said"
    assert result.usage.tool_calls == 1, "a call that waited was not made yet"
    with pytest.raises(RunConflict, match="decided before"):
        await handle.approve(after.call_id, "deny")
    assert (await behind.result(timeout=20)).stop_reason is StopReason.COMPLETED


async def test_a_person_decides_from_the_command_line(waiting: Fleet) -> None:
    runlane = Command(RUNLANE_REDIS_URL=waiting.redis_url)
    await waiting.start(1, RUNLANE_CONCURRENCY="1")
    handle = await waiting.client.submit(request("/tool do it", agent="careful"))
    approval = await asked(handle)
    other = await waiting.client.run(request("hello", session="other", agent="careful"))
    assert other == "Echo: hello (history=0)", "who waits holds no slot"

    listed = await asyncio.to_thread(runlane, "approvals", handle.run_id)
    assert json.loads(listed.stdout)["call_id"] == approval.call_id
    denial = ("approve", handle.run_id, approval.call_id, "--deny", "--reason", "not today")
    said, again = [await asyncio.to_thread(runlane, *denial) for _ in range(2)]
    assert (said.returncode, json.loads(said.stdout)["decision"]) == (0, "deny")
    assert again.returncode != 0
    assert "decided before: deny" in again.stderr

    result = await handle.result(timeout=10)
    assert "not today" in result.final_output
    assert not any(line["what"] == "careful" for line in waiting.journal())


async def test_what_nobody_decides_in_time_is_denied(waiting: Fleet) -> None:
    await waiting.start(1)
    result = await waiting.client.run_detailed(request("/tool do it", agent="impatient"), timeout=20)
    assert "nobody decided in time" in result.final_output
    (approval,) = await waiting.client.approvals(result.run_id)
    assert approval.decision is not None
    assert approval.decision.verdict == "deny"


async def test_a_run_that_waits_is_cancelled_at_once(waiting: Fleet) -> None:
    await waiting.start(1)
    handle = await waiting.client.submit(request("/tool do it", agent="careful"))
    await asked(handle)
    parent = await waiting.client.submit(request("2 60", session="family", agent="deeper"))
    await wait_until(lambda: any(line.get("depth") == 0 for line in waiting.journal()), "the grandchild executes")
    await asyncio.gather(handle.cancel(), parent.cancel())
    for run in (handle, parent):
        assert (await run.result(timeout=5)).stop_reason is StopReason.CANCELLED
    runs = (await waiting.client.runs()).rows

    async def all_over() -> bool:
        return all([(await waiting.client.get(run.run_id)).state is RunState.FINISHED for run in runs])

    await wait_until(all_over, "its children are cancelled, too")


async def test_a_waiting_run_goes_to_a_worker_that_joins(waiting: Fleet) -> None:
    await waiting.start(1)
    requests = [request("/tool do it", session=f"s{number}", agent="careful") for number in range(8)]
    handles = [await waiting.client.submit(each) for each in requests]
    asking = [(await asked(handle)).call_id for handle in handles]
    await waiting.start(1)
    await waiting.ready()

    for handle, call_id in zip(handles, asking, strict=True):
        await handle.approve(call_id, "allow")
    results = [await handle.result(timeout=20) for handle in handles]

    assert {result.final_output for result in results} == {"do says: did it"}
    assert len({result.metadata["worker"] for result in results}) == 2


async def test_an_output_type_comes_back_as_its_class(waiting: Fleet) -> None:
    await waiting.start(1)
    handle = await waiting.client.submit(request('{"name": "a", "size": 1}', agent="facts", output_type=Fact))
    assert (await handle.result(timeout=20)).final_output == Fact(name="a", size=1)
    assert (await waiting.client.result(handle.run_id)).final_output == {"name": "a", "size": 1}
    corrected = [chunk async for chunk in waiting.client.run_stream(request("no", agent="facts", output_type=Fact))]
    assert corrected[-1].result is not None
    assert corrected[-1].result.final_output == Fact(name="corrected", size=2)
    assert [chunk.kind for chunk in corrected].count(RunStreamChunkKind.VALIDATION_RETRY) == 1
    unknown = await waiting.client.run_detailed(request("x", agent="facts", output_type={"type": "thing"}))
    assert unknown.error_details is not None
    assert unknown.error_details.code == "user.invalid_input"
