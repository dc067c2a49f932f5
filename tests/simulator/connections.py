"""redis-py's connections, asyncio and blocking, with the simulated network at their other end.

Everything above a connection is the product's own client: its pools, its retries, its pipelines, its subscriptions.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import redis.asyncio
import redis.connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.simulator.loop import current_process
from tests.simulator.network import Command, Network, bounded
from workers.pool.greenlets import await_

_network: Network | None = None


def use_network(network: Network | None) -> None:
    """The network of the connections that are opened from now on."""
    global _network
    _network = network


def _current_network() -> Network:
    assert _network is not None, "no history is under way"
    return _network


class _Wire:
    """Commands go out whole, replies come back one by one; what both kinds of connection share."""

    def __init__(self) -> None:
        self._network = _current_network()
        self._process = current_process.get()
        self._requests: deque[Any] = deque()
        self._replies: deque[Any] = deque()
        self._up = False

    def open(self) -> None:
        if not self._network.reachable(self._process):
            raise RedisConnectionError("Redis cannot be reached in this simulation")
        self._up = True

    def shut(self) -> None:
        self._up = False
        self._requests.clear()
        self._replies.clear()

    def send(self, commands: Iterable[Command]) -> None:
        self._requests.append(self._network.send(list(commands), self._process))

    def next_reply(self) -> Any:
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply


class SimulatedConnection(redis.asyncio.Connection):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._wire = _Wire()
        self._subscribed: dict[str, Callable[[], None]] = {}

    @property
    def is_connected(self) -> bool:
        return self._wire._up

    async def connect(self) -> None:
        if self._wire._up:
            return
        self._wire.open()
        for reference in list(self._connect_callbacks):
            if (callback := reference()) is not None:
                await callback(self)  # type: ignore[misc]

    async def disconnect(self, *_: Any, **__: Any) -> None:
        for end in self._subscribed.values():
            end()
        self._subscribed.clear()
        self._wire.shut()

    async def can_read(self) -> bool:
        return False

    async def check_health(self) -> None:
        """A pooled connection that broke shows at its next request."""

    def pack_command(self, *args: Any) -> Any:
        return [args]

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        return [tuple(command) for command in commands]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        await self.connect()
        if command[0][0] == "PSUBSCRIBE":
            for pattern in command[0][1:]:
                self._subscribe(str(pattern))
        else:
            self._wire.send(command)

    def _subscribe(self, pattern: str) -> None:
        waiting = self._wire._replies
        waiting.append(["psubscribe", pattern, 1])
        process = current_process.get()
        self._subscribed[pattern] = self._wire._network.subscribe(pattern, process, self._heard)

    def _heard(self, message: list[str]) -> None:
        if not self._subscribed:
            return  # it was on its way when the connection was closed
        self._wire._replies.append(message)
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(None)

    _listening: Any = None

    async def read_response(self, disable_decoding: bool = False, timeout: float | None = None, **_: Any) -> Any:
        wire = self._wire
        if self._subscribed:
            return await self._next_message()
        if not wire._replies:
            if not wire._requests:
                raise RedisConnectionError("the connection was closed")
            limit = timeout if timeout is not None else self.socket_timeout
            try:
                wire._replies.extend(await bounded(wire._requests.popleft().replies, limit))
            except TimeoutError:
                await self.disconnect()
                raise RedisTimeoutError("Timeout reading from the simulated Redis") from None
            except BaseException:
                await self.disconnect()
                raise
        return wire.next_reply()

    async def _next_message(self) -> Any:
        while not self._wire._replies:
            self._listening = asyncio.get_running_loop().create_future()
            try:
                await bounded(self._listening, 1.0)
            except TimeoutError:
                if not self._wire._network.reachable(current_process.get()):
                    await self.disconnect()
                    raise RedisConnectionError("the subscription broke") from None
        return self._wire.next_reply()


class SimulatedSyncConnection(redis.connection.Connection):
    """For code that runs in a greenlet (``run_in_greenlet``), where its thread would block."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._wire = _Wire()

    @property
    def is_connected(self) -> bool:
        return self._wire._up

    def connect(self) -> None:
        if not self._wire._up:
            self._wire.open()

    def disconnect(self, *_: Any, **__: Any) -> None:
        self._wire.shut()

    def can_read(self, timeout: float | None = 0) -> bool:
        return False

    def check_health(self) -> None:
        """As above."""

    def send_command(self, *args: Any, **_: Any) -> None:
        self.send_packed_command([args])

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        return [tuple(command) for command in commands]

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.connect()
        self._wire.send(command)

    def read_response(self, *_: Any, **__: Any) -> Any:
        wire = self._wire
        if not wire._replies:
            try:
                wire._replies.extend(await_(bounded(wire._requests.popleft().replies, self.socket_timeout or math.inf)))
            except TimeoutError:
                self.disconnect()
                raise RedisTimeoutError("Timeout reading from the simulated Redis") from None
            except BaseException:
                self.disconnect()
                raise
        return wire.next_reply()
