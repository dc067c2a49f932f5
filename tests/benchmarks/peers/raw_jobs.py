"""The floor: a worker written by hand on redis-py, at least once (a stream's consumer group, acknowledged with the
result). It numbers, orders, records and guards nothing.

``submit`` is one XADD a job; ``submit_many`` sends pipelines. The worker acknowledges and answers with what gathered
while its last pipeline was in flight. ``python -m tests.benchmarks.peers.raw_jobs`` is the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from typing import Any

import orjson  # pyright: ignore[reportMissingImports]
import redis.asyncio
from redis.exceptions import ResponseError

_SLOTS = int(os.environ.get("BENCH_SLOTS", "200"))
_STREAM, _GROUP = "jobs", "workers"
#: Commands of one pipeline.
_BATCH = 250
#: As long as a run's request is, about.
_PADDING = "x" * 200


def connect() -> Any:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        os.environ["BENCH_REDIS_URL"], socket_timeout=None, max_connections=50, timeout=None
    )
    return redis.asyncio.Redis(connection_pool=pool)


async def _run(job: str) -> float:
    if job == "sleep":
        await asyncio.sleep(1)
    return time.time()


class _Replies:
    """Sends what gathered while the last pipeline was in flight."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: list[tuple[bytes, str, bytes]] = []
        self._writer: asyncio.Task[None] | None = None

    def add(self, message: bytes, reply_to: str, result: bytes) -> None:
        self._waiting.append((message, reply_to, result))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            pipeline = self._client.pipeline(transaction=False)
            for message, reply_to, result in batch:
                pipeline.xack(_STREAM, _GROUP, message)
                pipeline.rpush(reply_to, result)
            await pipeline.execute()
        self._writer = None


async def work() -> None:
    client = connect()
    with contextlib.suppress(ResponseError):  # it is there
        await client.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
    replies, slots = _Replies(client), asyncio.Semaphore(_SLOTS)

    async def attempt(message: bytes, data: bytes) -> None:
        job = orjson.loads(data)
        try:
            replies.add(message, job["reply_to"], orjson.dumps([job["id"], await _run(job["name"])]))
        finally:
            slots.release()

    async with asyncio.TaskGroup() as running:
        while True:
            for _, messages in await client.xreadgroup(_GROUP, "one", {_STREAM: ">"}, count=200, block=5_000) or ():
                for message, fields in messages:
                    await slots.acquire()
                    running.create_task(attempt(message, fields[b"job"]))


class Calls:
    def __init__(self) -> None:
        self._client = connect()
        self._reply_to = f"reply:{uuid.uuid4().hex}"

    def _job(self, name: str) -> tuple[str, bytes]:
        identity = uuid.uuid4().hex
        job = {"id": identity, "name": name, "reply_to": self._reply_to, "padding": _PADDING}
        return identity, orjson.dumps(job)

    async def submit(self, job: str, count: int) -> list[str]:
        sent: list[str] = []
        for _ in range(count):
            identity, data = self._job(job)
            await self._client.xadd(_STREAM, {"job": data})
            sent.append(identity)
        return sent

    async def submit_many(self, job: str, count: int) -> list[str]:
        sent: list[str] = []
        for start in range(0, count, _BATCH):
            pipeline = self._client.pipeline(transaction=False)
            for _ in range(min(_BATCH, count - start)):
                identity, data = self._job(job)
                pipeline.xadd(_STREAM, {"job": data})
                sent.append(identity)
            await pipeline.execute()
        return sent

    async def results(self, handles: list[str]) -> list[Any]:
        found: dict[str, Any] = {}
        while len(found) < len(handles):
            _, first = await self._client.blpop([self._reply_to], timeout=30)
            for reply in (first, *(await self._client.lpop(self._reply_to, 500) or ())):
                identity, value = orjson.loads(reply)
                found[identity] = value
        return [found[identity] for identity in handles]


if __name__ == "__main__":
    import uvloop  # pyright: ignore[reportMissingImports]

    uvloop.run(work())
