"""Streams as clients see them, of runs that real workers execute: what is cut, lost or killed costs nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from producer.client import AsyncClient
from producer.handle import RunHandle
from runtime_core.contracts.run import RunResult
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import connect
from tests.chaos.proxy import Proxy
from tests.integration.dead_letter_by_hand import give_up
from tests.integration.fleet.conftest import PARTITIONS, request, wait_until
from tests.integration.talking_workers import TalkingWorkers
from tests.integration.talking_workers import client as client
from tests.integration.talking_workers import proxy as proxy
from tests.integration.talking_workers import workers as workers

pytestmark = pytest.mark.slow

#: Readers at once in one process.
CROWD = 200
#: Seconds after its end within which a run's reader knows, whatever was lost.
ENDS_WITHIN_S = 3.0


@pytest.fixture
async def reader(workers: TalkingWorkers, proxy: Proxy) -> AsyncIterator[AsyncClient]:
    async with workers.client(proxy.url) as client:
        yield client


async def read(client: AsyncClient, run_id: str) -> list[RunStreamChunk]:
    return [chunk async for chunk in client.stream(run_id)]


def check_dense(chunks: list[RunStreamChunk]) -> None:
    """The promise about every stream that was read from its start."""
    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
    kinds = [chunk.kind for chunk in chunks]
    assert kinds[0] is RunStreamChunkKind.RUN_QUEUED
    assert kinds.index(RunStreamChunkKind.RUN_FINISHED) == len(kinds) - 1


async def test_200_readers_of_one_run_and_of_200_runs_read_the_same_over_as_many_connections_as_one(
    client: AsyncClient, reader: AsyncClient, proxy: Proxy, workers: TalkingWorkers
) -> None:
    alone = await client.submit(request("talk 5 40"))
    check_dense(await read(reader, alone.run_id))
    connections = proxy.connections

    shared = await client.submit(request("talk 20 20", session="shared"))
    crowd = await asyncio.gather(*(read(reader, shared.run_id) for _ in range(CROWD)))
    log = await workers.log(shared.run_id)
    check_dense(log)
    assert all(chunks == log for chunks in crowd)

    requests = [request("talk 20 20", session=f"own {number}") for number in range(CROWD)]
    handles = [handle for handle in await client.submit_many(requests) if isinstance(handle, RunHandle)]
    each = await asyncio.gather(*(read(reader, handle.run_id) for handle in handles))
    assert len(each) == CROWD
    for handle, chunks in zip(handles, each, strict=True):
        check_dense(chunks)
        assert {chunk.run_id for chunk in chunks} == {handle.run_id}

    assert proxy.connections == connections, "redis-py closes none that it once opened"


async def test_a_reader_whose_last_message_was_lost_still_ends_soon(
    client: AsyncClient, reader: AsyncClient, proxy: Proxy
) -> None:
    handle = await client.submit(request("talk 20 20", session="muted"))
    chunks: list[RunStreamChunk] = []
    async for chunk in reader.stream(handle.run_id):
        chunks.append(chunk)
        if chunk.kind is RunStreamChunkKind.LLM_DELTA:
            proxy.muted = True
    late = time.time() * 1000 - chunks[-1].timestamp_ms

    check_dense(chunks)
    assert late / 1000 < ENDS_WITHIN_S


async def test_run_finished_is_last_however_a_run_ends(client: AsyncClient, reader: AsyncClient) -> None:
    running = await client.submit(request("talk 400 40", session="ends"))
    queued = await client.submit(request("echo never", session="ends"))
    expires = await client.submit(request("echo never", session="ends", queue_deadline_ms=200))
    unknown = await client.submit(request("echo x", session="unknown", agent="nobody"))
    broken = await client.submit(request("echo x", session="broken", agent="broken"))
    fails = await client.submit(request("raise ValueError", session="fails"))
    handles = [running, queued, expires, unknown, broken, fails]
    reading = [asyncio.create_task(read(reader, handle.run_id)) for handle in handles]

    await queued.cancel()
    await reading[2]
    await running.cancel()
    async with asyncio.timeout(20):
        streams = await asyncio.gather(*reading)

    for chunks in streams:
        check_dense(chunks)
    ends = [chunks[-1].result or RunResult(run_id="none") for chunks in streams]
    assert [end.stop_reason for end in ends] == ["cancelled", "cancelled", "timeout", "failed", "failed", "failed"]
    starts = [any(chunk.kind is RunStreamChunkKind.RUN_STARTED for chunk in chunks) for chunks in streams]
    assert starts[:3] == [True, False, False]


async def test_run_finished_is_last_for_a_dead_letter() -> None:
    with EmbeddedRedis() as server:
        redis = connect(server.url)
        async with AsyncClient(server.url, partitions=PARTITIONS) as client:
            handle = await client.submit(request("die 9", run_id="dead"))
            reading = asyncio.create_task(read(client, handle.run_id))
            await give_up(redis, handle.run_id, PARTITIONS)
            async with asyncio.timeout(10):
                chunks = await reading
        await redis.aclose()
    check_dense(chunks)
    assert chunks[-1].result is not None
    assert chunks[-1].result.stop_reason == "dead_letter"


async def test_readers_that_leave_and_come_back_over_a_killed_worker_and_cut_connections_hold_the_log(
    client: AsyncClient, reader: AsyncClient, proxy: Proxy, workers: TalkingWorkers
) -> None:
    """Last in this file: it takes one of the workers away."""
    handle = await client.submit(request("talk 120 50", session="killed"))
    restless = [asyncio.create_task(come_and_go(reader, handle.run_id, seed)) for seed in range(3)]
    await wait_until(lambda: workers.started(handle.run_id) == 1, "it runs")
    async with aclosing(client.stream(handle.run_id)) as chunks:
        async for chunk in chunks:
            if chunk.sequence == 30:
                proxy.cut()
            elif chunk.sequence == 60:
                os.kill(workers.executing(handle.run_id).pid, signal.SIGKILL)
            elif chunk.kind is RunStreamChunkKind.RUN_STARTED and chunk.attempt == 2:
                proxy.cut()
    async with asyncio.timeout(10):
        held = await asyncio.gather(*restless)

    log = await workers.log(handle.run_id)
    check_dense(log)
    assert RunStreamChunkKind.RUN_INTERRUPTED in [chunk.kind for chunk in log]
    assert all(chunks == log for chunks in held)


async def come_and_go(client: AsyncClient, run_id: str, seed: int) -> list[RunStreamChunk]:
    """All that a reader gets who leaves after 50 chunks or so and comes back with the cursor that it holds."""
    chance, held = random.Random(seed), list[RunStreamChunk]()
    while not held or held[-1].kind is not RunStreamChunkKind.RUN_FINISHED:
        leaves_after = len(held) + chance.randint(1, 100)
        async with aclosing(client.stream(run_id, after=held[-1].cursor if held else 0)) as chunks:
            async for chunk in chunks:
                assert not held or chunk.sequence > held[-1].sequence, "it holds that chunk already"
                held.append(chunk)
                if len(held) == leaves_after:
                    break
    return held
