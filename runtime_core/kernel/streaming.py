"""The chunks of a run inside this process: the same as a client of the fleet gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.events.bus import RuntimeEvent
from runtime_core.events.projection import chunk_from_frame, projects


async def stream_chunks(
    request: RunRequest, config_version: int, execute: Callable[[RunRequest, RunScope], Awaitable[RunResult]]
) -> AsyncGenerator[RunStreamChunk, None]:
    """``execute`` the run and yield its chunks as they come; closing the generator cancels the run and awaits it."""
    events: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()

    async def sink(event: RuntimeEvent) -> None:
        if projects(event.name):
            events.put_nowait(event)

    scope = RunScope(config_version=config_version, sink=sink)
    run = asyncio.ensure_future(execute(request, scope))
    run.add_done_callback(lambda _: events.put_nowait(None))
    sequence = 0
    try:
        while (event := await events.get()) is not None:
            sequence += 1
            yield _chunk(event, request, sequence)
        result = await run
        payload = {"stop_reason": result.stop_reason.value, "result": result}
        last = RuntimeEvent(name=TERMINAL_EVENT, payload=payload, attempt=scope.attempt, config_version=config_version)
        yield _chunk(last, request, sequence + 1)
    finally:
        run.cancel()
        await asyncio.wait({run})


def _chunk(event: RuntimeEvent, request: RunRequest, sequence: int) -> RunStreamChunk:
    frame = Frame(
        logged=True,
        sequence=sequence,
        attempt=event.attempt,
        event=event.name,
        timestamp_ms=event.timestamp_ms,
        ids=RunIds.of(request),
        config_version=event.config_version,
        payload=event.payload,
    )
    return chunk_from_frame(frame)
