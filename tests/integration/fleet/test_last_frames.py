"""The last frames of an attempt, which its finish takes along, and Celery's events, which gather."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime_core.clock import boot_seconds
from runtime_core.contracts.frame import decode_frame
from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.kernel.runtime import Runtime
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from tests.integration.fleet.celery_events import CeleryEvents
from tests.integration.fleet.conftest import Fleet, wait_until
from tests.integration.store.conftest import PARTITION, Store
from workers.consumer import EVENTS_INTERVAL
from workers.execution.attempts import Attempt, AttemptTable
from workers.execution.host import Services
from workers.execution.runner import Runner
from workers.partitions.ownership import Ownership

AGENT = {"id": "quick", "name": "Quick", "memory": {"type": "buffer"}, "pattern": {"type": "react"}}


class Quick:
    """A runtime plugin that ends without ever waiting."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config

    async def run(self, *, request: Any, **_: Any) -> RunResult:
        return RunResult(run_id=request.run_id, final_output="done")


class CountingStore(AttemptStore):
    """Counts what is written, and refuses frames if it is told to."""

    def __init__(self, redis: Redis, *, refuses: bool = False) -> None:
        super().__init__(redis)
        self.written: list[tuple[str, int]] = []
        self._refuses = refuses

    async def append(self, admission: Admission, frames: Sequence[NumberedFrame]) -> bool:
        self.written.append(("append", len(frames)))
        return await super().append(admission, frames)

    async def finish(self, admission: Admission, *, frames: Sequence[NumberedFrame] = (), **rest: Any) -> None:
        self.written.append(("finish", len(frames)))
        if frames and self._refuses:
            raise ResponseError("refused")
        await super().finish(admission, frames=frames, **rest)


async def _execute(store: Store, attempts: CountingStore) -> RunResult | None:
    run = await store.submit("r1", agent_id="quick")
    attempt = Attempt(run, Ownership(await store.own(), boot_seconds()))
    attempt.answer = await store.admitted(attempt.ownership.lease, run)
    runtime = Runtime.from_dict({"agents": [AGENT], "runtime": {"impl": f"{__name__}.Quick"}})
    services: Any = Services(
        attempts=attempts,
        runs=store.runs,
        approvals=None,  # type: ignore[arg-type]  # nobody asks
        sessions=None,  # type: ignore[arg-type]  # the plugin has none
        without_slot=None,  # type: ignore[arg-type]  # nothing waits
    )
    result = await Runner(services=services, runtime=runtime, table=AttemptTable(), worker="w1").execute(attempt)
    await runtime.close()
    return result


async def test_a_run_that_never_waits_is_written_at_once(redis: Redis) -> None:
    store = Store(redis)
    attempts = CountingStore(redis)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.events_channel(PARTITION, "r1"))  # type: ignore[arg-type]
        result = await _execute(store, attempts)
        told = [await pubsub.get_message(timeout=5) for _ in range(9)]

    assert result is not None
    assert result.stop_reason is StopReason.COMPLETED
    assert [script for script, _ in attempts.written] == ["finish"]
    names = [name for message in told if message for name in _names(message)]
    assert names == [
        *("run.queued", "run.started", "run.requested", "session.run.started", "run.validated"),
        *("run.completed", "session.run.completed", "run.finished"),
    ]
    assert [event for _, _, event in await store.events("r1")] == ["run.queued", "run.started", "run.finished"]


def _names(message: dict[str, Any]) -> list[str]:
    return [decode_frame(message["data"]).event] if message["type"] == "message" else []


async def test_a_run_whose_last_frames_are_refused_for_good_has_failed(redis: Redis) -> None:
    store = Store(redis)
    attempts = CountingStore(redis, refuses=True)

    result = await _execute(store, attempts)

    assert result is not None
    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert "refused" in result.error_details.message
    assert [script for script, _ in attempts.written] == ["finish", "finish"]
    assert attempts.written[1] == ("finish", 0)
    assert await store.events("r1") == [(1, 0, "run.queued"), (2, 1, "run.started"), (3, 1, "run.finished")]


async def test_celerys_events_gather_before_they_are_published(fleet: Fleet, redis: Redis) -> None:
    """One run after the other: as Celery has it, each would be two or three messages."""
    await fleet.start(1)
    await fleet.ready()
    async with redis.pubsub() as pubsub:
        await pubsub.psubscribe("*celeryev/task*")
        began = boot_seconds()
        for _ in range(40):
            await fleet.client.run(agent_id="journal", session_id="s", input_text="echo", timeout=20)
        await asyncio.sleep(0.3)
        took, count = boot_seconds() - began, 0
        while (message := await pubsub.get_message(timeout=0.2)) is not None:
            count += message["type"] == "pmessage"
    assert 0 < count <= took / EVENTS_INTERVAL + 1


async def test_celery_hears_of_the_last_run_of_a_worker_that_stops(fleet: Fleet) -> None:
    (worker,) = await fleet.start(1)
    await fleet.ready()
    with CeleryEvents(fleet.redis_url) as events:
        handle = await fleet.client.submit(agent_id="journal", session_id="s", input_text="wait 0.5")
        await wait_until(lambda: "task-started" in events.of(handle.run_id), "the run has started")
        os.kill(worker.pid, signal.SIGTERM)
        await handle.result(timeout=20)
        await wait_until(lambda: events.of(handle.run_id)[-1] == "task-succeeded", "its end was told")
