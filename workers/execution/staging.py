"""How an attempt writes to its session: staged with the run, applied when it finishes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from runtime_core.store.attempts import Admission, AttemptStore
from workers.execution.publisher import until_answered


class StagedWrites:
    """The SessionWriter of one attempt on a worker, see contracts/session.py."""

    def __init__(self, store: AttemptStore, admission: Admission, guard: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._admission = admission
        self._guard = guard
        self._count = admission.staged

    async def staged(self) -> list[list[str]]:
        if not self._admission.staged:
            return []
        what = f"session writes of run {self._admission.run}"
        return await until_answered(lambda: self._store.staged(self._admission), self._guard, what)

    async def stage(self, entries: list[list[str]]) -> None:
        first, texts = self._count, [json.dumps(entry) for entry in entries]
        await until_answered(
            lambda: self._store.stage(self._admission, first, texts),
            self._guard,
            f"session writes of run {self._admission.run}",
        )
        self._count += len(entries)
