"""SAQ with its Redis queue; results are looked for in bulk, as its own ``Queue.map`` does.

``python -m tests.benchmarks.peers.saq_jobs`` is the worker.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from saq import Queue  # pyright: ignore[reportMissingImports]
from saq.worker import Worker  # pyright: ignore[reportMissingImports]

_LOOK_EVERY_S = 0.02
#: Jobs whose state is asked for in one round trip.
_IN_BULK = 500
_CONCURRENCY = 100

queue: Any = Queue.from_url(os.environ["BENCH_REDIS_URL"], name="bench")


async def noop(_: Any) -> float:
    return time.time()


async def work() -> None:
    await queue.connect()
    await Worker(queue=queue, functions=[noop], concurrency=_CONCURRENCY).start()


class Calls:
    def __init__(self) -> None:
        self._connected = False

    async def submit(self, job: str, count: int) -> list[Any]:
        if not self._connected:
            await queue.connect()
            self._connected = True
        return [await queue.enqueue(job, ttl=3_600) for _ in range(count)]

    async def results(self, handles: list[Any]) -> list[Any]:
        keys = [handle.key for handle in handles]
        found: dict[str, Any] = {}
        while True:
            missing = [key for key in keys if key not in found]
            for start in range(0, len(missing), _IN_BULK):
                asked = missing[start : start + _IN_BULK]
                for key, job in zip(asked, await queue.jobs(asked), strict=True):
                    if job is not None and job.completed:
                        found[key] = job.result
            if len(found) == len(keys):
                return [found[key] for key in keys]
            await asyncio.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    import uvloop  # pyright: ignore[reportMissingImports]

    uvloop.run(work())
