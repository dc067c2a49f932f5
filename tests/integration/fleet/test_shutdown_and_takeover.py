"""Workers that leave, in order and out of order; the runs go on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

from producer.cli.processes import WorkerProcess
from producer.handle import RunHandle
from runtime_core.contracts.run import StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.store.connection import connect
from runtime_core.store.leases import LeaseStore
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until


async def executing(fleet: Fleet, text: str, **settings: str) -> tuple[WorkerProcess, RunHandle]:
    """A single worker, and a run that it executes."""
    (worker,) = await fleet.start(1, **settings)
    handle = await fleet.client.submit(request(text))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")
    return worker, handle


async def end(worker: WorkerProcess, by: signal.Signals) -> None:
    os.kill(worker.pid, by)
    await wait_until(lambda: worker.exit_code is not None, "the worker has ended")


async def test_sigterm_lets_executing_runs_end_and_releases_every_partition(fleet: Fleet) -> None:
    worker, running = await executing(fleet, "wait 1.5")
    waiting = await fleet.client.submit(request("echo next"))

    os.kill(worker.pid, signal.SIGTERM)

    result = await running.result(timeout=15)
    assert (result.stop_reason, result.metadata["attempt"]) == (StopReason.COMPLETED, 1)
    await wait_until(lambda: worker.exit_code is not None, "the worker has ended")
    assert worker.exit_code == 0
    assert (await waiting.get()).attempt == 0
    redis = connect(fleet.redis_url)
    view = await LeaseStore(redis).observe(PARTITIONS)
    await redis.aclose()
    assert [lease.owner for lease in view.leases] == [""] * PARTITIONS
    assert not view.members

    await fleet.start(1)
    assert (await waiting.result(timeout=15)).final_output == "next"


async def test_what_does_not_end_within_the_grace_is_handed_over(fleet: Fleet) -> None:
    worker, running = await executing(fleet, "wait 3", RUNLANE_DRAIN_GRACE_S="0.5")
    await end(worker, signal.SIGTERM)

    record = await running.get()
    assert (record.handovers, record.crashes, record.interruptions) == (1, 0, 0)
    await fleet.start(1)
    result = await running.result(timeout=15)
    assert (result.stop_reason, result.metadata["attempt"]) == (StopReason.COMPLETED, 2)


async def test_a_tool_that_does_not_end_with_its_worker_counts_no_crash(fleet: Fleet) -> None:
    (worker,) = await fleet.start(1, RUNLANE_DRAIN_GRACE_S="0.3")
    handle = await fleet.client.submit(request("/tool slow 15", agent="assistant"))
    await wait_until(lambda: bool(fleet.journal()), "the tool executes")
    await end(worker, signal.SIGTERM)
    assert "code that does not end" in worker.log.read_text()

    await fleet.start(1, RUNLANE_DRAIN_GRACE_S="0.3")
    await wait_until(lambda: len(fleet.journal()) > 1, "it executes elsewhere", seconds=30)
    record = await handle.get()
    assert (record.crashes, record.interruptions + record.handovers) == (0, 1)
    await handle.cancel()


async def test_a_stream_stays_open_while_its_run_moves_to_another_worker(fleet: Fleet) -> None:
    first, _ = await fleet.start(2, RUNLANE_DRAIN_GRACE_S="0.3")
    await fleet.ready()
    handles = [await fleet.client.submit(request("wait 2", session=f"s{number}")) for number in range(8)]
    streams = [asyncio.create_task(_all(handle.stream())) for handle in handles]
    await wait_until(lambda: len(fleet.journal()) == 8, "the runs execute")
    await end(first, signal.SIGTERM)

    handed_over = 0
    for handle, stream in zip(handles, streams, strict=True):
        chunks = await stream
        assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert chunks[-1].kind is RunStreamChunkKind.RUN_FINISHED
        assert chunks[-1].payload["stop_reason"] == StopReason.COMPLETED
        record = await handle.get()
        assert (record.crashes, record.interruptions) == (0, 0)
        handed_over += record.handovers
    assert handed_over > 0


async def _all(stream: AsyncIterator[RunStreamChunk]) -> list[RunStreamChunk]:
    return [chunk async for chunk in stream]


async def test_sigquit_hands_over_at_once(fleet: Fleet) -> None:
    worker, running = await executing(fleet, "wait 60")
    await end(worker, signal.SIGQUIT)
    assert (await running.get()).handovers == 1
    assert (await running.get()).state == "queued"
    await running.cancel()


async def test_soft_shutdown_gives_runs_a_moment_before(fleet: Fleet) -> None:
    worker, short = await executing(fleet, "wait 1", RUNLANE_SOFT_SHUTDOWN_S="5")
    await end(worker, signal.SIGQUIT)
    record = await short.get()
    assert (record.status, record.attempt, record.handovers) == (StopReason.COMPLETED, 1, 0)


async def test_the_runs_of_a_killed_worker_start_elsewhere_and_the_stream_tells(fleet: Fleet) -> None:
    await fleet.start(2)
    await fleet.ready()
    handle = await fleet.client.submit(request("die 1"))
    behind = await fleet.client.submit(request("echo behind"))

    chunks = [chunk async for chunk in handle.stream()]

    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk.kind for chunk in chunks] == [
        RunStreamChunkKind.RUN_QUEUED,
        RunStreamChunkKind.RUN_STARTED,
        RunStreamChunkKind.RUN_INTERRUPTED,
        RunStreamChunkKind.RUN_STARTED,
        RunStreamChunkKind.RUN_FINISHED,
    ]
    recovery = (chunks[3].timestamp_ms - chunks[1].timestamp_ms) / 1000
    assert recovery < 10
    assert chunks[-1].result is not None
    assert chunks[-1].result.final_output == "attempt 2"
    assert (await handle.get()).crashes == 1
    assert (await behind.result(timeout=15)).final_output == "behind"


async def test_a_stopped_process_writes_nothing_after_it_lost_its_lease(fleet: Fleet) -> None:
    await fleet.start(2)
    await fleet.ready()
    handle = await fleet.client.submit(request("wait 3"))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")
    first = fleet.journal()[0]["pid"]

    os.kill(first, signal.SIGSTOP)
    try:
        result = await handle.result(timeout=25)
    finally:
        os.kill(first, signal.SIGCONT)

    assert result.metadata["attempt"] == 2
    await wait_until(lambda: "is lost to another worker" in fleet.logs(), "the first worker has seen its loss")
    assert (await handle.get()).result == result
    chunks = [chunk async for chunk in handle.stream()]
    assert [chunk.attempt for chunk in chunks] == sorted(chunk.attempt for chunk in chunks)
    assert chunks[-1].kind is RunStreamChunkKind.RUN_FINISHED
