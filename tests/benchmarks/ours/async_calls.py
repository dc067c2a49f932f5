"""Runlane's asyncio client, for ``peers/driver.py``."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from producer.client import AsyncClient
from producer.handle import RunHandle
from runtime_core.contracts.run import RunResult
from runtime_core.contracts.stream import RunStreamChunkKind
from tests.benchmarks.ours.requests import SESSIONS, TIMEOUT_S, Requests, completed
from tests.benchmarks.peers.starts import starts


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
        found = await asyncio.gather(*(handle.result(timeout=TIMEOUT_S) for handle in handles))
        return [completed(result) for result in found]

    async def queue(self, job: str, count: int, sessions: int, prefix: str) -> dict[str, int]:
        """Submit, and leave them."""
        return {"runs": len(await self.submit_many(job, count, sessions, prefix))}

    async def talk(self, event: str, runs: int, count: int, rate: float, lead_s: float) -> dict[str, Any]:
        """Milliseconds from said to here of each event, and seconds from the first to the last."""
        ages: list[float] = []
        times: list[float] = []

        async def listen(at: float) -> None:
            asked = json.dumps({"event": event, "count": count, "rate": rate, "at": at})
            (request,) = self._requests.make(asked, 1)
            async for chunk in self._client.run_stream(request):
                if chunk.kind == event:
                    now = time.time_ns()
                    # A chunk may hold several pieces of text.
                    said = [int(word) for word in chunk.payload["text"].split() if word.isdigit()]
                    ages.extend((now - moment) / 1e6 for moment in said)
                    times.append(now / 1e9)

        await asyncio.gather(*(listen(at) for at in starts(runs, rate, lead_s)))
        if len(ages) != runs * count:
            raise RuntimeError(f"{runs * count} pieces were said, {len(ages)} came")
        return {"ms": ages, "seconds": times[-1] - times[0]}

    async def first_chunks(self, job: str, count: int) -> dict[str, list[float]]:
        """Milliseconds from submit until ``run.started`` is here; each run is seen to its end before the next."""
        found: list[float] = []
        for request in self._requests.make(job, count):
            began = time.perf_counter()
            async for chunk in self._client.run_stream(request):
                if chunk.kind is RunStreamChunkKind.RUN_STARTED:
                    found += [(time.perf_counter() - began) * 1000]
        return {"ms": found}
