"""A run's chunks as Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Frames are written by hand: that is less work for the process than a library's event objects, see tests/benchmarks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from enum import StrEnum

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producer.gateway import metrics
from producer.gateway.server import cut
from producer.gateway.tokens import LOOK_EVERY_S
from runtime_core.clock import now_ms
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.errors import RunlaneError
from runtime_core.events.projection import CHUNK_KIND_BY_EVENT, chunk_json

logger = logging.getLogger(__name__)

#: So that neither caches nor nginx hold chunks back, and nobody sends his next request on a connection that is cut.
HEADERS = {
    "Connection": "close",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "Content-Type": "text/event-stream; charset=utf-8",
}
HEARTBEAT = b": \n\n"


#: Bytes of events that are handed over together at the most, or one event.
JOINED_BYTES = 64 * 1024


def event_of(frame: Frame, cursor: str) -> bytes:
    """The event of a frame that is a chunk; ``id`` is what to send as Last-Event-ID to go on behind it."""
    head = f"id: {cursor}\nevent: {CHUNK_KIND_BY_EVENT[frame.event]}\ndata: "
    return b"%b%b\n\n" % (head.encode(), chunk_json(frame))


class StreamEnd(StrEnum):
    FINISHED = "finished"
    #: The client left, or its connection broke.
    LEFT = "left"
    #: The client took nothing for too long.
    CUT = "cut"
    #: The gateway stops.
    CLOSING = "closing"
    #: The client's token was.
    WITHDRAWN = "withdrawn"
    #: The store is away for too long, or the run's record has gone.
    FAILED = "failed"


#: Ends that the client is told of in a last event, ``stream.cut``: the run goes on, and it may come back.
_WHY_CUT = {
    StreamEnd.CUT: "stalled",
    StreamEnd.CLOSING: "closing",
    StreamEnd.WITHDRAWN: "withdrawn",
    StreamEnd.FAILED: "unavailable",
}


class EventStream(Response):
    """1. Every chunk is one event; those that are there go out together. ``run.finished`` of the run itself is last and
       ends the response.

    2. When nothing came for ``heartbeat_s`` a comment is sent, so that nobody between takes the connection for dead.
    3. A client that takes nothing for ``stall_s`` is cut: a last event, ``stream.cut`` {reason}, says why if it reads
       again within seconds, then its connection is broken and its buffers are freed. It may come back with the id that
       it holds. The same event ends a stream when the gateway stops, or cannot read the run, or ``allowed``, which is
       asked every ``LOOK_EVERY_S``, says no.
    4. ``on_end`` is awaited with how it ended, whatever happens.
    """

    def __init__(
        self,
        frames: AsyncGenerator[list[tuple[Frame, str]], None],
        *,
        label: str,
        heartbeat_s: float,
        stall_s: float,
        closing: asyncio.Event,
        allowed: Callable[[], bool],
        on_end: Callable[[StreamEnd], Awaitable[None]],
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._frames = frames
        self._label = label
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._closing = closing
        self._allowed = allowed
        self._on_end = on_end
        self._began_ms = now_ms()
        #: Monotonic seconds: when something was handed over last, and since when a hand-over is under way.
        self._sent_at = time.monotonic()
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics.CLIENTS.inc()
        end = StreamEnd.FAILED
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            end = await self._serve(scope, receive, send)
        finally:
            metrics.CLIENTS.dec()
            metrics.ENDS.labels(end).inc()
            await asyncio.shield(self._on_end(end))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> StreamEnd:
        """What ends first decides."""
        ways = {
            asyncio.create_task(self._send_chunks(send)): StreamEnd.FINISHED,
            asyncio.create_task(left(receive)): StreamEnd.LEFT,
            asyncio.create_task(self._keep_alive(send)): StreamEnd.CUT,
            asyncio.create_task(_until(self._closing)): StreamEnd.CLOSING,
            asyncio.create_task(_while(self._allowed)): StreamEnd.WITHDRAWN,
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        first = min(done, key=lambda task: list(ways).index(task))
        end, error = ways[first], first.exception()
        if isinstance(error, RunlaneError):
            end = StreamEnd.FAILED
            logger.warning("the stream of %s failed: %s", self._label, error)
        elif error is not None:
            raise error
        if end is StreamEnd.CUT:
            logger.warning("the stream of %s is cut: its client took nothing for %g s", self._label, self._stall_s)
        if reason := _WHY_CUT.get(end):
            metrics.CUTS.labels(reason).inc()
            cut(scope, b'event: stream.cut\ndata: {"reason":"%s"}\n\n' % reason.encode())
        return end

    async def _send_chunks(self, send: Send) -> None:
        async with aclosing(self._frames) as batches:
            async for batch in batches:
                joined = bytearray()
                for frame, cursor in batch:
                    joined += event_of(frame, cursor)
                    if len(joined) >= JOINED_BYTES:
                        await self._hand_over(send, bytes(joined))
                        joined.clear()
                if joined:
                    await self._hand_over(send, bytes(joined))
                self._note(batch)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _note(self, batch: list[tuple[Frame, str]]) -> None:
        metrics.CHUNKS.inc(len(batch))
        now = now_ms()
        for frame, _ in batch:
            if frame.event == RunStreamChunkKind.STREAM_GAP:
                metrics.GAPS.inc()
            if frame.timestamp_ms >= self._began_ms:
                metrics.LAG.observe(max(0, now - frame.timestamp_ms) / 1000)

    async def _hand_over(self, send: Send, data: bytes) -> None:
        """Returns when the socket's buffer has room again."""
        self._sending_since = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending_since = None
        self._sent_at = time.monotonic()

    async def _keep_alive(self, send: Send) -> None:
        """Send a comment when it has been quiet; return when the client has stalled."""
        while True:
            now = time.monotonic()
            if self._sending_since is None:
                quiet = now - self._sent_at
                if quiet >= self._heartbeat_s:
                    self._sent_at = now
                    try:
                        async with asyncio.timeout(self._stall_s):
                            await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                    except TimeoutError:
                        return
                    continue
                await asyncio.sleep(min(self._heartbeat_s - quiet, self._stall_s))
            elif now - self._sending_since >= self._stall_s:
                return
            else:
                await asyncio.sleep(min(self._sending_since + self._stall_s - now, self._heartbeat_s))


async def left(receive: Receive) -> None:
    """Returns when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _while(allowed: Callable[[], bool]) -> None:
    while allowed():  # noqa: ASYNC110 - a file does not say when it changes
        await asyncio.sleep(LOOK_EVERY_S)
