"""A Redis client on a clock of the test: what the stores call, answered by a blocking connection, at a time we choose.

Scripts take their time from ARGV[1] (see store/lua/_clock.lua), so that a test can let hours pass in no time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import redis

Answer = TypeVar("Answer")

#: Where the clock begins: before the clock of the server, so that nothing that the server dates looks old.
START_MS = 1_700_000_000_000


class TimedRedis:
    """The blocking client; ``now_ms`` is the time that scripts see."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self.now_ms = START_MS
        #: Scripts that are still answered before the connection breaks, once; None: it holds.
        self.breaks_after: int | None = None

    def execute_command(self, *command: Any) -> Any:
        if command[0] == "EVALSHA":
            self._count()
        return self.client.execute_command(*_at(self.now_ms, command))

    def pipeline(self, *, transaction: bool) -> TimedPipeline:
        return TimedPipeline(self.client.pipeline(transaction=transaction), self.now_ms)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def _count(self) -> None:
        if self.breaks_after is None:
            return
        if self.breaks_after == 0:
            self.breaks_after = None
            raise redis.ConnectionError("the connection broke")
        self.breaks_after -= 1


def _at(now_ms: int, command: tuple[Any, ...]) -> tuple[Any, ...]:
    """``command``; a script with that time in its ARGV[1]."""
    return (*command[:4], now_ms, *command[5:]) if command[0] in ("EVALSHA", "EVAL") else command


class TimedPipeline:
    def __init__(self, pipeline: Any, now_ms: int) -> None:
        self._pipeline = pipeline
        self._now_ms = now_ms

    def execute_command(self, *command: Any) -> None:
        self._pipeline.execute_command(*_at(self._now_ms, command))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


class AwaitedRedis:
    """The same client as the stores expect it: every call is awaited, and none ever suspends."""

    def __init__(self, timed: TimedRedis) -> None:
        self._timed = timed

    def pipeline(self, *, transaction: bool) -> AwaitedPipeline:
        return AwaitedPipeline(self._timed.pipeline(transaction=transaction))

    def __getattr__(self, name: str) -> Any:
        return _awaited(getattr(self._timed, name))


class AwaitedPipeline:
    def __init__(self, pipeline: TimedPipeline) -> None:
        self._pipeline = pipeline

    async def execute(self, **options: Any) -> Any:
        return self._pipeline.execute(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def _awaited(method: Callable[..., Answer]) -> Callable[..., Awaitable[Answer]]:
    async def call(*values: Any, **options: Any) -> Answer:
        return method(*values, **options)

    return call


def finished(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of a coroutine that never suspends: no event loop, no tasks."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("a store waited for something else than Redis")
