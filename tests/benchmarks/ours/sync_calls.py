"""Runlane's blocking client, for ``peers/driver.py``."""

from __future__ import annotations

import os

from producer.handle import RunHandle
from producer.sync_client import Client, SyncRunHandle
from runtime_core.contracts.run import RunResult
from tests.benchmarks.ours.requests import SESSIONS, TIMEOUT_S, Requests, completed


class Calls:
    def __init__(self) -> None:
        self._client = Client(os.environ["BENCH_REDIS_URL"])
        self._requests = Requests()

    def submit(self, job: str, count: int, sessions: int = SESSIONS) -> list[SyncRunHandle]:
        return [self._client.submit(request) for request in self._requests.make(job, count, sessions)]

    def submit_many(self, job: str, count: int, sessions: int = SESSIONS) -> list[SyncRunHandle]:
        outcomes = self._client.submit_many(self._requests.make(job, count, sessions))
        for outcome in outcomes:
            if not isinstance(outcome, SyncRunHandle | RunHandle):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, SyncRunHandle)]

    def results(self, handles: list[SyncRunHandle]) -> list[RunResult]:
        return [completed(handle.result(timeout=TIMEOUT_S)) for handle in handles]
