"""Runs on two real workers: affinity, order, isolation, and what Celery's monitors see of them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

from celery import Celery

from producer.client import AsyncClient
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.ids import ingress_run_id
from runtime_core.store import keys
from runtime_core.store.connection import connect
from runtime_core.store.scripts import run_script
from tests.integration.fleet.celery_events import CeleryEvents
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until


async def test_a_thousand_runs_of_a_hundred_sessions_keep_affinity_and_order(fleet: Fleet) -> None:
    await fleet.start(2)
    await fleet.ready()
    requests = [request(f"echo {number}", session=f"session {number % 100}") for number in range(1000)]

    handles = [await fleet.client.submit(one) for one in requests]
    results = await asyncio.gather(*(handle.result(timeout=90) for handle in handles))

    assert {result.stop_reason for result in results} == {StopReason.COMPLETED}
    assert [result.final_output for result in results] == [str(number) for number in range(1000)]
    processes: dict[str, set[int]] = defaultdict(set)
    order: dict[str, list[str]] = defaultdict(list)
    times: dict[str, list[float]] = defaultdict(list)
    for line in fleet.journal():
        processes[line["session"]].add(line["pid"])
        times[line["session"]].append(line["at"])
        if line["what"] == "start":
            order[line["session"]].append(line["run"])
    assert all(len(pids) == 1 for pids in processes.values()), "a session was served by two processes"
    assert len(set.union(*processes.values())) == 2, "one of the workers served nothing"
    submitted: dict[str, list[str]] = defaultdict(list)
    for one in requests:
        submitted[one.session_id].append(one.run_id)
    assert order == submitted, "runs of a session started in another order than submitted"
    starts_and_ends = [line["what"] for line in sorted(fleet.journal(), key=lambda line: (line["session"], line["at"]))]
    assert starts_and_ends == ["start", "end"] * 1000, "runs of a session overlapped"
    for session, by_session in submitted.items():
        workers = {results[int(run_index)].metadata["worker"] for run_index in _indices(requests, session)}
        hits = [results[index].metadata["cache_hit"] for index in _indices(requests, session)]
        assert len(workers) == 1
        assert hits == [False] + [True] * (len(by_session) - 1)
    first = results[0].metadata
    assert (first["attempt"], first["config_version"]) == (1, 1)
    assert 0 <= first["partition"] < PARTITIONS


def _indices(requests: list[RunRequest], session: str) -> list[int]:
    return [index for index, one in enumerate(requests) if one.session_id == session]


async def test_the_stream_of_a_run_is_dense_and_can_be_left_and_rejoined(fleet: Fleet) -> None:
    await fleet.start(1)
    handle = await fleet.client.submit(request("/tool calc 6*7", agent="assistant"))
    first = [chunk async for chunk in handle.stream()]
    rest = [chunk async for chunk in handle.stream(after=3)]

    assert [chunk.sequence for chunk in first] == list(range(1, len(first) + 1))
    assert rest == first[3:]
    kinds = [chunk.kind for chunk in first]
    assert kinds[0] is RunStreamChunkKind.RUN_QUEUED
    assert kinds[1] is RunStreamChunkKind.RUN_STARTED
    assert kinds[-1] is RunStreamChunkKind.RUN_FINISHED
    assert {RunStreamChunkKind.LLM_DELTA, RunStreamChunkKind.TOOL_STARTED, RunStreamChunkKind.TOOL_FINISHED} <= set(
        kinds
    )
    assert first[-1].result is not None
    assert "42" in first[-1].result.final_output
    assert all(earlier.timestamp_ms <= later.timestamp_ms for earlier, later in pairwise(first[1:]))


async def test_a_session_remembers_on_another_worker_too(fleet: Fleet) -> None:
    (first,) = await fleet.start(1)
    await fleet.client.run_detailed(request("my name is Ada", agent="assistant"))
    first.stop()
    await fleet.start(1)

    result = await fleet.client.run_detailed(request("hello", agent="assistant"))

    assert result.metadata["cache_hit"] is False
    assert "history=1" in result.final_output


async def test_two_tenants_with_the_same_session_name_share_nothing(fleet: Fleet) -> None:
    await fleet.start(1)
    async with AsyncClient(fleet.redis_url, tenant="other") as other:
        same = request("served_here", run_id="the-same-id")
        for client in (fleet.client, other):
            assert (await client.run_detailed(same)).final_output == 1
        again = request("hello", agent="assistant")
        await fleet.client.run_detailed(again)
        result = await other.run_detailed(again)
    assert "history=0" in result.final_output


async def test_celery_sees_success_failure_and_revocation_and_duplicates_change_nothing(fleet: Fleet) -> None:
    await fleet.start(1)
    await fleet.ready()
    with CeleryEvents(fleet.redis_url) as events:
        good = await fleet.client.submit(request("echo x", session="s1"))
        bad = await fleet.client.submit(request("raise ValueError", session="s2"))
        running = await fleet.client.submit(request("wait 60", session="s3"))
        queued = await fleet.client.submit(request("echo never", session="s3"))
        await wait_until(lambda: "task-started" in events.of(running.run_id), "the waiting run has started")
        await queued.cancel()
        await running.cancel()
        await running.result(timeout=5)
        assert (await bad.result(timeout=5)).stop_reason is StopReason.FAILED
        await good.result(timeout=5)

        redis = connect(fleet.redis_url)
        ended = {good.run_id: "task-succeeded", bad.run_id: "task-failed", running.run_id: "task-revoked"}
        for run in ended:
            record = await fleet.client.get(run)
            doorbell = await redis.hget(keys.run(record.partition, run), "bell")  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
            for number in range(3):
                await redis.lpush(keys.queue(record.partition), doorbell.replace("@TAG@", f"{run}:dup{number}"))  # pyright: ignore
        after = await fleet.client.run_detailed(request("echo after", session="s4"))
        await wait_until(lambda: events.of(after.run_id)[-1:] == ["task-succeeded"], "a later run was reported")
        await redis.aclose()

        for run, last in ended.items():
            await wait_until(lambda run=run, last=last: events.of(run)[-1] == last, f"{run} ended as {last}")
            assert events.of(run) == ["task-received", "task-started", last]
        assert events.of(queued.run_id) == []
        assert "ValueError" in events.last(bad.run_id)["exception"]
        assert "RunFailed('" in events.last(bad.run_id)["exception"]


async def test_celerys_revoke_cancels_a_run(fleet: Fleet) -> None:
    await fleet.start(1)
    handle = await fleet.client.submit(request("wait 60"))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")
    app = Celery("operator", broker=fleet.redis_url, set_as_current=False)
    await asyncio.to_thread(app.control.revoke, handle.run_id, terminate=True)
    assert (await handle.result(timeout=5)).stop_reason is StopReason.CANCELLED
    app.close()


async def test_a_plain_celery_client_submits_a_run(fleet: Fleet) -> None:
    await fleet.start(1)
    app = Celery("stranger", broker=fleet.redis_url, set_as_current=False)
    good = {"agent_id": "journal", "session_id": "s", "input_text": "echo from afar", "run_id": "afar"}
    nameless = {"agent_id": "journal", "session_id": "s", "input_text": "echo nameless"}

    def send(payload: object, **options: Any) -> str:
        return str(app.send_task("runlane.submit", [payload], queue="runs", **options).id)

    await asyncio.to_thread(send, good)
    celery_id = await asyncio.to_thread(send, nameless)
    await asyncio.to_thread(send, nameless, task_id=celery_id)  # a redelivery
    not_an_object = await asyncio.to_thread(send, "hello")
    misspelt = await asyncio.to_thread(send, {"agent_id": "journal", "session_id": "s2", "input_txt": "x"})
    conflict = await asyncio.to_thread(send, good | {"input_text": "echo other"})
    app.close()

    async def finished(run_id: str) -> RunResult:
        async def there() -> bool:
            try:
                return (await fleet.client.get(run_id)).result is not None
            except Exception:
                return False

        await wait_until(there, f"run {run_id} is finished")
        return await fleet.client.result(run_id, timeout=5)

    assert (await finished("afar")).final_output == "from afar"
    assert (await finished(ingress_run_id(celery_id))).final_output == "nameless"
    for sent, code, words in (
        (not_an_object, "user.invalid_input", "not an object"),
        (misspelt, "user.invalid_input", "Did you mean 'input_text'"),
        (conflict, "run.conflict", "taken by another request"),
    ):
        result = await finished(ingress_run_id(sent))
        assert result.stop_reason is StopReason.FAILED
        assert result.error_details is not None
        assert result.error_details.code == code
        assert words in result.error_details.message
    assert (await fleet.client.get(ingress_run_id(not_an_object))).session_id == f"refused-{not_an_object}"
    starts = [line["input"] for line in fleet.journal() if line["what"] == "start"]
    assert sorted(starts) == ["echo from afar", "echo nameless"]


async def test_an_openagents_agents_file_runs_unchanged(fleet: Fleet) -> None:
    (fleet.folder / "agents.yaml").write_text(
        json.dumps(
            {
                "version": "1.0",
                "runtime": {"type": "default"},
                "session": {"type": "in_memory"},
                "events": {"type": "async"},
                "agents": [
                    {
                        "id": "assistant",
                        "name": "demo",
                        "memory": {"type": "window_buffer", "on_error": "continue", "config": {"window_size": 10}},
                        "pattern": {"type": "react", "config": {"max_steps": 8, "step_timeout_ms": 30000}},
                        "llm": {"provider": "mock", "model": "mock-react", "temperature": 0.2},
                        "tools": [{"id": "calc", "type": "calc", "enabled": True}],
                        "runtime": {"max_steps": 16, "session_queue_size": 1000, "event_queue_size": 2000},
                    }
                ],
            }
        )
    )
    await fleet.start(1)
    result = await fleet.client.run_detailed(request("/tool calc 1+1", agent="assistant"))
    assert result.stop_reason is StopReason.COMPLETED
    assert result.usage.tool_calls == 1


async def test_children_of_a_run_whose_canceller_died_are_cancelled_by_its_worker(fleet: Fleet) -> None:
    await fleet.start(1)
    parent = await fleet.client.submit(request("wait 30"))
    child = await fleet.client.submit(request("wait 30", session="child", parent_run_id=parent.run_id))
    await wait_until(lambda: len(fleet.journal()) == 2, "both execute")

    redis = connect(fleet.redis_url)  # what is left of a client that died before it came to the children
    await run_script(redis, "cancel", (await parent.get()).partition, parent.run_id)
    await redis.aclose()

    assert (await child.result(timeout=5)).stop_reason is StopReason.CANCELLED
    assert (await parent.result(timeout=5)).stop_reason is StopReason.CANCELLED
