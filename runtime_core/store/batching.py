"""A Redis client for a process with many tasks: their commands share connection and round trip.

redis-py takes a connection for each command under way, and a fifth of a millisecond of the loop to send it and to read
its answer. A worker of a hundred runs has many under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

#: What one round trip carries, in commands and bytes: beyond either the rest goes with the next.
BATCH_COMMANDS, BATCH_BYTES = 100, 1024 * 1024


class _Command(NamedTuple):
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    reply: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(len(value) for value in self.arguments if isinstance(value, str | bytes))


class BatchingRedis(Redis):
    """1. A command leaves at once if no other is under way; else it waits for their answers and goes with all that
    gathered meanwhile. No timer.

    2. Commands are executed in the order in which they were issued, each with a reply or an error of its own; if the
       connection breaks, all of a batch fail (redis-py has retried then) and may or may not have been executed.
    3. Whoever is cancelled while it waits leaves its command to be executed.

    Not for commands that block: they would hold up all others.
    """

    _waiting: deque[_Command]
    _sender: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self._sender is None:
            self._waiting = deque()
            self._sender = asyncio.create_task(self._send(), name="redis batches")
        command = _Command(args, options, asyncio.get_running_loop().create_future())
        self._waiting.append(command)
        return await command.reply

    async def _send(self) -> None:
        batch: list[_Command] = []
        try:
            while batch := self._take():
                await self._round_trip(batch)
        finally:
            self._sender = None
            for command in (*batch, *self._waiting):  # left only if this task was cancelled: the loop ends
                _fail(command, RedisConnectionError("the client was stopped"))

    def _take(self) -> list[_Command]:
        batch: list[_Command] = []
        size = 0
        while self._waiting and len(batch) < BATCH_COMMANDS:
            size += self._waiting[0].size
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _round_trip(self, batch: list[_Command]) -> None:
        pipeline = self.pipeline(transaction=False)
        for command in batch:
            pipeline.execute_command(*command.arguments, **command.options)
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except Exception as error:
            for command in batch:
                _fail(command, error)
            return
        for command, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                _fail(command, reply)
            elif not command.reply.done():
                command.reply.set_result(reply)


def _fail(command: _Command, error: Exception) -> None:
    if not command.reply.done():
        command.reply.set_exception(error)
