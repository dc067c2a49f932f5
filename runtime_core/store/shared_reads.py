"""Reads of many readers over one connection: what accumulated during a round trip goes out together in the next.

A thousand readers hold no more connections than one, and readers of the same run share what they read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from redis.asyncio import Redis

from runtime_core.errors import RunlaneError
from runtime_core.store.reads import Read
from runtime_core.store.replies import execute

T = TypeVar("T")

#: Reads in one round trip: a page of a log is some hundred kilobytes.
READS_AT_ONCE = 16


class SharedReads:
    """1. At most one round trip is under way.

    2. A read that is asked again before it goes out goes out once; all who asked get the same value, and do not change
       it.
    3. One that Redis refuses, or whose value cannot be read, fails for those who asked it alone.

    ``call`` makes the round trip: it decides how long an outage is waited for, and in which words it ends.
    """

    def __init__(
        self, redis: Redis, call: Callable[[Callable[[], Awaitable[list[Any]]]], Awaitable[list[Any]]]
    ) -> None:
        self._redis = redis
        self._call = call
        self._waiting: dict[tuple[str | int, ...], tuple[Read[Any], asyncio.Future[Any]]] = {}
        self._sending: asyncio.Task[None] | None = None

    async def get(self, read: Read[T]) -> T:
        """Raises what ``read`` raises, RunlaneError if Redis refuses it or stays away."""
        if read.command not in self._waiting:
            self._waiting[read.command] = read, asyncio.get_running_loop().create_future()
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="shared reads")
        future = self._waiting[read.command][1]
        return cast(T, await asyncio.shield(future))

    async def _send(self) -> None:
        try:
            while self._waiting:
                commands = list(self._waiting)[:READS_AT_ONCE]
                batch = [self._waiting.pop(command) for command in commands]
                try:
                    replies = await self._call(lambda: self._round_trip(batch))  # noqa: B023
                except Exception as error:
                    replies = [error] * len(batch)
                for (read, future), reply in zip(batch, replies, strict=True):
                    _settle(read, future, reply)
        finally:
            self._sending = None

    async def _round_trip(self, batch: list[tuple[Read[Any], asyncio.Future[Any]]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for read, _ in batch:
            pipeline.execute_command(*read.command)
        return await execute(pipeline)


def _settle(read: Read[Any], future: asyncio.Future[Any], reply: Any) -> None:
    try:
        if isinstance(reply, RunlaneError):
            raise reply
        if isinstance(reply, Exception):
            raise RunlaneError(f"Redis refused {read.command[0]} {read.command[1]}: {reply}") from reply
        future.set_result(read.parse(reply))
    except RunlaneError as error:
        future.set_exception(error)
    except (ValueError, KeyError, TypeError) as error:
        future.set_exception(
            RunlaneError(
                f"{read.command[1]} cannot be read: {error}",
                hint="somebody else wrote that key, or a process of another release: see `runlane doctor`",
            )
        )
    future.exception()  # whoever asked may have left: that it failed is nobody's surprise then
