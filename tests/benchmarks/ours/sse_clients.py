"""Many SSE clients in one process, and what feeds the runs that they follow. For ``peers/driver.py``.

The clients count events and do nothing else, for they share the machine with the server. The feed writes what a
worker's append writes: frames to the log, the record's sequence, and pub/sub. No worker runs: it would compete with
the server for the machine, and the server cannot tell.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis

from producer.client import AsyncClient
from runtime_core.contracts.frame import Frame, RunIds, encode_frame
from runtime_core.ids import DEFAULT_TENANT, ScopedRunId, session_key
from runtime_core.partitioning import DEFAULT_PARTITIONS, partition_of
from runtime_core.store import keys
from tests.benchmarks.ours.requests import Requests

_EVENT = b"event: llm.delta"
#: Chunks of each run in one step of the feed; while a server passes one step on, the next is on its way.
_STEP = 5
_LOST_AFTER_S = 30.0
_CONNECTED_WITHIN_S = 20.0


class EventCounter:
    """Counts events in what comes in pieces."""

    def __init__(self) -> None:
        self._tail = b""

    def count(self, data: bytes) -> int:
        data = self._tail + data
        # An event's name may be cut by the end of what was received.
        self._tail = data[-(len(_EVENT) - 1) :]
        return data.count(_EVENT)


class _Reader(asyncio.Protocol):
    def __init__(self, path: str, counter: _Counter) -> None:
        self._path = path
        self._counter = counter
        self._answered = False
        self._events = EventCounter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._counter.add(connected=not self._answered, events=self._events.count(data))
        self._answered = True


class _Feed(asyncio.Protocol):
    """Sends what was packed before: a client library's work for each command would make the feed the slowest part."""

    def __init__(self) -> None:
        self._replies = hiredis.Reader()
        self._missing = 0
        self._answered = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not False:
            if isinstance(reply, Exception):
                raise reply
            self._missing -= 1
        if not self._missing:
            self._answered.set()

    async def send(self, commands: list[bytes]) -> None:
        """Returns when all are answered."""
        assert self._transport is not None
        self._missing += len(commands)
        self._answered.clear()
        self._transport.write(b"".join(commands))
        await self._answered.wait()


def _packed(*words: str | bytes) -> bytes:
    """A command as it is sent, see https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


class _Counter:
    def __init__(self) -> None:
        self.connected = self.events = 0
        self._changed = asyncio.Event()

    def add(self, *, connected: int = 0, events: int = 0) -> None:
        self.connected += connected
        self.events += events
        self._changed.set()

    async def until(self, *, connected: int = 0, events: int = 0, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while self.connected < connected or self.events < events:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RuntimeError(
                f"{connected or events} clients or events were expected, {self.connected} and {self.events} came"
            ) from None


class Calls:
    def __init__(self) -> None:
        self._client = AsyncClient(os.environ["BENCH_REDIS_URL"])
        self._counter = _Counter()
        self._runs: list[tuple[int, RunIds]] = []
        #: The last one of every run: that of its run.queued.
        self._sequence = 1

    async def prepare(self, runs: int) -> dict[str, list[str]]:
        """Submit the runs that are followed."""
        for request in Requests().make("", runs, sessions=runs):
            await self._client.submit(request)
            partition = partition_of(session_key(DEFAULT_TENANT, request.session_id), DEFAULT_PARTITIONS)
            self._runs.append((partition, RunIds.of(request)))
        return {
            "runs": [ids.run_id for _, ids in self._runs],
            "channels": [keys.events_channel(partition, ScopedRunId(ids.run_id)) for partition, ids in self._runs],
        }

    async def connect(self, port: int, paths: list[str]) -> dict[str, int]:
        loop = asyncio.get_running_loop()
        for path in paths:
            await loop.create_connection(lambda path=path: _Reader(path, self._counter), "127.0.0.1", port)
        await self._counter.until(connected=len(paths), within_s=_CONNECTED_WITHIN_S)
        return {"connected": self._counter.connected}

    async def deliver(self, steps: int) -> dict[str, Any]:
        """Feed every run; at any time one step is on its way, so that the server always has work."""
        port = urlsplit(os.environ["BENCH_REDIS_URL"]).port
        _, feed = await asyncio.get_running_loop().create_connection(_Feed, "127.0.0.1", port or 6379)
        packed = [self._step() for _ in range(steps)]
        each = _STEP * len(self._runs)
        before, began = self._counter.events, time.perf_counter()
        for number, commands in enumerate(packed):
            await feed.send(commands)
            await self._counter.until(events=before + number * each, within_s=_LOST_AFTER_S)
        await self._counter.until(events=before + steps * each, within_s=_LOST_AFTER_S)
        return {"chunks": self._counter.events - before, "seconds": time.perf_counter() - began}

    def _step(self) -> list[bytes]:
        """The next chunks of every run, as commands."""
        commands: list[bytes] = []
        for partition, ids in self._runs:
            run = ScopedRunId(ids.run_id)
            for sequence in range(self._sequence + 1, self._sequence + _STEP + 1):
                frame = Frame(
                    logged=True,
                    sequence=sequence,
                    attempt=1,
                    event="llm.delta",
                    timestamp_ms=time.time_ns() // 1_000_000,
                    config_version=1,
                    ids=ids,
                    payload={"text": "lorem ipsum dolor "},
                )
                data = encode_frame(frame)
                commands.append(_packed("XADD", keys.log(partition, run), f"{sequence}-0", "f", data))
                commands.append(_packed("PUBLISH", keys.events_channel(partition, run), data))
            last = str(self._sequence + _STEP)
            commands.append(_packed("HSET", keys.run(partition, run), "sequence", last))
        self._sequence += _STEP
        return commands
