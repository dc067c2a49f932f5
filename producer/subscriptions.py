"""One pub/sub connection for all readers of an event loop and a Redis; it counts readers per channel.

What passes here may be lost (a connection breaks, a slow reader's buffer is full). Every loss is signalled to the
readers it may concern, who then read the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from runtime_core.contracts.frame import Frame, decode_frame
from runtime_core.store.connection import subscriber

#: What may wait for a reader that lags, in messages and characters: beyond either it reads the log instead.
BUFFER_MESSAGES, BUFFER_CHARACTERS = 1_000, 1024 * 1024
#: Seconds of silence on the connection after which it is pinged, and seconds the answer may take.
PING_AFTER_S = 10.0
#: Seconds between attempts to connect again: first and longest.
RECONNECT_FIRST_S, RECONNECT_LONGEST_S = 0.05, 1.0


class Signal(StrEnum):
    """What a reader gets instead of a message."""

    #: Nothing came within the timeout.
    SILENCE = "silence"
    #: Messages may be missing: the connection was lost for a while, or this reader was too slow.
    MISSED = "missed"


class Message:
    """What came on a channel. All its readers get the same object, so it is decoded once."""

    def __init__(self, channel: str, data: str) -> None:
        self.channel = channel
        self.data = data
        self._frame: Frame | None = None

    @property
    def frame(self) -> Frame | None:
        """The frame in it; None if it is none of this version. Not to be changed."""
        if self._frame is None:
            with suppress(ValueError):
                self._frame = decode_frame(self.data)
        return self._frame


class Subscription:
    """One reader's view of one channel or pattern, with a bounded buffer."""

    def __init__(self, limit: int = BUFFER_MESSAGES) -> None:
        self._limit = limit
        self._messages: deque[Message] = deque()
        self._characters = 0
        self._missed = False
        self._wake = asyncio.Event()
        #: Nothing can have been missed before the server confirms, for what is to come is caused after it was asked.
        self.ahead = False

    def start(self) -> None:
        """Forget a loss from before the reader began to read."""
        self._missed = False

    def confirmed(self) -> None:
        """The server has subscribed this reader: what was published before may be missing."""
        if not self.ahead:
            self.miss()
        self.ahead = False

    def offer(self, message: Message) -> None:
        """Take a message, or, when the buffer is full, drop it with all that wait: the reader is told MISSED."""
        if len(self._messages) >= self._limit or self._characters >= BUFFER_CHARACTERS:
            self.miss()
        elif not self._missed:
            self._messages.append(message)
            self._characters += len(message.data)
            self._wake.set()

    def miss(self) -> None:
        self._messages.clear()
        self._characters = 0
        self._missed = True
        self._wake.set()

    async def receive(self, timeout: float | None) -> Message | Signal:
        """The next message, MISSED once after a loss, or SILENCE after ``timeout`` seconds."""
        if not self._messages and not self._missed:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return Signal.SILENCE
        if self._missed:
            self._missed = False
            return Signal.MISSED
        message = self.waiting()
        assert message is not None
        return message

    def waiting(self) -> Message | None:
        """The next message, if one waits."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._characters -= len(message.data)
        return message


@dataclass(eq=False)
class _Topic:
    """A channel or pattern with at least one reader. ``asked``: the server was asked to subscribe it; ``confirmed``: it
    said that it is.
    """

    pattern: bool
    readers: set[Subscription] = field(default_factory=set[Subscription])
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)


class Subscriptions:
    """The readers of one pub/sub connection. Use it from the event loop that made it."""

    _shared: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Subscriptions]]] = WeakKeyDictionary()

    def __init__(self, url: str) -> None:
        self._url = url
        #: Something came on the connection since it was looked at last.
        self._heard = False
        self._topics: dict[str, _Topic] = {}
        self._changed = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._users = 0

    @classmethod
    def shared(cls, url: str) -> Subscriptions:
        """The one instance of this event loop for ``url``. Whoever calls this calls ``release`` later."""
        by_url = cls._shared.setdefault(asyncio.get_running_loop(), {})
        subscriptions = by_url.setdefault(url, cls(url))
        subscriptions._users += 1
        return subscriptions

    async def release(self) -> None:
        """Give a shared instance back; the last to do so closes the connection.

        All readers are told MISSED: those of the client that leaves find it closed, the others read the log once.
        """
        for topic in self._topics.values():
            for reader in topic.readers:
                reader.miss()
        self._users -= 1
        if not self._users:
            del self._shared[asyncio.get_running_loop()][self._url]
            await self.aclose()

    @asynccontextmanager
    async def join(
        self,
        channel: str,
        *,
        pattern: bool = False,
        confirm_within: float,
        limit: int = BUFFER_MESSAGES,
        ahead: bool = False,
    ) -> AsyncGenerator[Subscription]:
        """Read ``channel`` (a glob if ``pattern``) for the length of the context.

        The context is entered when the server has confirmed the subscription, or after ``confirm_within`` seconds
        without a connection; the reader is told MISSED when the connection comes. With ``ahead`` it is entered when the
        server was asked: for who then causes what is published there, by a command that Redis gets after that one.
        """
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = _Topic(pattern)
            self._changed.set()
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), name="runlane subscriptions")
        reader = Subscription(limit)
        reader.ahead = ahead and not topic.confirmed.is_set()
        topic.readers.add(reader)
        try:
            with suppress(TimeoutError):  # until the connection comes, the reader has the log
                async with asyncio.timeout(confirm_within):
                    await (topic.asked if ahead else topic.confirmed).wait()
                reader.start()
            yield reader
        finally:
            topic.readers.discard(reader)
            if not topic.readers and self._topics.get(channel) is topic:
                del self._topics[channel]
                self._changed.set()

    async def aclose(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None

    async def _serve(self) -> None:
        pause = RECONNECT_FIRST_S
        while True:
            connection = subscriber(self._url)
            try:
                await connection.connect()
                pause = RECONNECT_FIRST_S
                await self._attend(connection)
            except* (RedisError, OSError):
                pass
            finally:
                await connection.disconnect(nowait=True)
            for topic in self._topics.values():
                topic.asked.clear()
                topic.confirmed.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_LONGEST_S)

    async def _attend(self, connection: AbstractConnection) -> None:
        unanswered: Counter[str] = Counter()
        self._changed.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask(connection, unanswered))
            group.create_task(self._listen(connection, unanswered))
            group.create_task(self._watch(connection))

    async def _ask(self, connection: AbstractConnection, unanswered: Counter[str]) -> None:
        """Keep the server's subscriptions equal to the topics."""
        asked: dict[str, _Topic] = {}
        while True:
            await self._changed.wait()
            self._changed.clear()
            gone = {name: topic for name, topic in asked.items() if self._topics.get(name) is not topic}
            for name in gone:
                del asked[name]
            new = {name: topic for name, topic in self._topics.items() if name not in asked}
            asked |= new
            unanswered.update(new.keys())
            for verb, topics in (("UNSUBSCRIBE", gone), ("SUBSCRIBE", new)):
                for prefix in ("", "P"):
                    if names := [name for name, topic in topics.items() if topic.pattern is bool(prefix)]:
                        await connection.send_command(prefix + verb, *names)
            for topic in new.values():
                topic.asked.set()

    async def _listen(self, connection: AbstractConnection, unanswered: Counter[str]) -> None:
        while True:
            message: Any = await connection.read_response()
            self._heard = True
            if isinstance(message, list):
                self._dispatch(message, unanswered)

    async def _watch(self, connection: AbstractConnection) -> None:
        """End the connection when it stays silent although it was pinged."""
        pinged = False
        while True:
            self._heard = False
            await asyncio.sleep(PING_AFTER_S)
            if self._heard:
                pinged = False
            elif pinged:
                raise ConnectionError("no answer to a ping")
            else:
                pinged = True
                await connection.send_command("PING")

    def _dispatch(self, message: list[Any], unanswered: Counter[str]) -> None:
        """See https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages."""
        match message:
            case ["message", channel, data]:
                self._deliver(channel, channel, data)
            case ["pmessage", pattern, channel, data]:
                self._deliver(pattern, channel, data)
            case ["subscribe" | "psubscribe", name, _]:
                unanswered[name] -= 1
                if unanswered[name]:
                    return  # the answer to an earlier subscription, given up meanwhile, does not count for this one
                del unanswered[name]
                if topic := self._topics.get(name):
                    topic.confirmed.set()
                    for reader in topic.readers:
                        reader.confirmed()
            case _:
                pass

    def _deliver(self, name: str, channel: str, data: str) -> None:
        topic = self._topics.get(name)
        received = Message(channel, data)
        for reader in topic.readers if topic else ():
            reader.offer(received)
