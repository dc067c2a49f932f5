"""Taskiq with a stream broker, which acknowledges and is the faster of its two, and results asked for every 2 ms (its
default, 200 ms, would measure that pause).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker  # pyright: ignore[reportMissingImports]

_URL = os.environ["BENCH_REDIS_URL"]
_LOOK_EVERY_S = 0.002
#: Results that are asked for at the same time: each polls.
_AT_ONCE = 64

broker: Any = RedisStreamBroker(_URL, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(_URL, result_ex_time=3_600)
)


async def _noop() -> float:
    return time.time()


noop: Any = broker.task(task_name="noop")(_noop)


class Calls:
    def __init__(self) -> None:
        self._started = False

    async def submit(self, job: str, count: int) -> list[Any]:
        assert job == "noop"
        if not self._started:
            await broker.startup()
            self._started = True
        return [await noop.kiq() for _ in range(count)]

    async def results(self, handles: list[Any]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(handles), _AT_ONCE):
            waits = [
                handle.wait_result(check_interval=_LOOK_EVERY_S, timeout=60)
                for handle in handles[start : start + _AT_ONCE]
            ]
            found += [result.return_value for result in await asyncio.gather(*waits)]
        return found
