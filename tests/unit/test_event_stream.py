"""What an SSE response hands over, and how much at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from producer.gateway.sse import JOINED_BYTES, EventStream, StreamEnd
from runtime_core.contracts.frame import Frame, RunIds


def frame(sequence: int, text: str = "hi") -> tuple[Frame, str]:
    ids = RunIds(run_id="r", session_id="s", agent_id="a")
    delta = Frame(
        logged=True, sequence=sequence, attempt=1, event="llm.delta", timestamp_ms=0, ids=ids, payload={"text": text}
    )
    return delta, str(sequence)


async def handed_over(*batches: list[tuple[Frame, str]]) -> list[bytes]:
    sent: list[dict[str, Any]] = []

    async def frames() -> AsyncGenerator[list[tuple[Frame, str]], None]:
        for batch in batches:
            yield batch

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def ended(how: StreamEnd) -> None:
        assert how is StreamEnd.FINISHED

    response = EventStream(
        frames(),
        label="run r",
        heartbeat_s=15,
        stall_s=15,
        closing=asyncio.Event(),
        allowed=lambda: True,
        on_end=ended,
    )
    await response({}, receive, send)
    return [message["body"] for message in sent[1:-1]]


async def test_chunks_that_are_there_go_out_together_each_as_an_event_of_its_own() -> None:
    both, last = await handed_over([frame(1), frame(2)], [frame(3)])
    assert [event.splitlines()[0] for event in both.split(b"\n\n")[:-1]] == [b"id: 1", b"id: 2"]
    assert last.startswith(b'id: 3\nevent: llm.delta\ndata: {"kind":"llm.delta","run_id":"r"')
    assert last.endswith(b"}\n\n")


async def test_no_more_goes_out_at_once_than_a_slow_client_may_hold() -> None:
    sent = await handed_over([frame(number, "x" * 30_000) for number in range(1, 11)])
    assert len(b"".join(sent).split(b"\n\n")) == 11
    assert max(map(len, sent)) < JOINED_BYTES + 31_000
