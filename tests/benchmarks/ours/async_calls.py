"""Runlane's asyncio client, for ``peers/driver.py``."""

from __future__ import annotations

import asyncio
import os
import time

from producer.client import AsyncClient
from producer.handle import RunHandle
from runtime_core.contracts.run import RunResult
from runtime_core.contracts.stream import RunStreamChunkKind
from tests.benchmarks.ours.requests import SESSIONS, Requests, completed


class Calls:
    def __init__(self) -> None:
        self._client = AsyncClient(os.environ["BENCH_REDIS_URL"])
        self._requests = Requests()

    async def submit(self, job: str, count: int, sessions: int = SESSIONS, prefix: str = "s") -> list[RunHandle]:
        return [await self._client.submit(request) for request in self._requests.make(job, count, sessions, prefix)]

    async def submit_many(self, job: str, count: int, sessions: int = SESSIONS, prefix: str = "s") -> list[RunHandle]:
        outcomes = await self._client.submit_many(self._requests.make(job, count, sessions, prefix))
        for outcome in outcomes:
            if not isinstance(outcome, RunHandle):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, RunHandle)]

    async def results(self, handles: list[RunHandle]) -> list[RunResult]:
        found = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        return [completed(result) for result in found]

    async def queue(self, job: str, count: int, sessions: int, prefix: str) -> dict[str, int]:
        """Submit, and leave them."""
        return {"runs": len(await self.submit_many(job, count, sessions, prefix))}

    async def first_chunks(self, job: str, count: int) -> dict[str, list[float]]:
        """Milliseconds from submit until ``run.started`` is here; each run is seen to its end before the next."""
        found: list[float] = []
        for request in self._requests.make(job, count):
            began = time.perf_counter()
            async for chunk in self._client.run_stream(request):
                if chunk.kind is RunStreamChunkKind.RUN_STARTED:
                    found += [(time.perf_counter() - began) * 1000]
        return {"ms": found}
