"""Dramatiq with its Redis broker and its Redis results; eight threads, its default."""

from __future__ import annotations

import os
import time
from typing import Any

import dramatiq  # pyright: ignore[reportMissingImports]
from dramatiq.brokers.redis import RedisBroker  # pyright: ignore[reportMissingImports]
from dramatiq.results import Results  # pyright: ignore[reportMissingImports]
from dramatiq.results.backends import RedisBackend  # pyright: ignore[reportMissingImports]

#: redis-py 8 gives up a read after 5 s: a result that takes longer would raise.
_URL = os.environ["BENCH_REDIS_URL"] + "?socket_timeout=100&max_connections=4000"
_RESULTS = RedisBackend(url=_URL)
_BROKER = RedisBroker(url=_URL)
_BROKER.add_middleware(Results(backend=_RESULTS, store_results=True))
dramatiq.set_broker(_BROKER)


def _noop() -> float:
    return time.time()


noop: Any = dramatiq.actor(_noop, actor_name="noop", queue_name="bench")


class Calls:
    def submit(self, job: str, count: int) -> list[Any]:
        assert job == "noop"
        return [noop.send() for _ in range(count)]

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get_result(backend=_RESULTS, block=True, timeout=60_000) for handle in handles]
