"""redis-py with nothing around it: events of many runs from one process to another.

``paced`` events are published one by one as they are said, ``unpaced`` ones are written to a stream for each run and
published, in pipelines of what gathered while the last one was in flight. It numbers, fences and resumes nothing.
``python -m tests.benchmarks.peers.raw_stream`` is the process that says them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson  # pyright: ignore[reportMissingImports]

from tests.benchmarks.peers.driver import new_loop
from tests.benchmarks.peers.raw_jobs import connect
from tests.benchmarks.peers.starts import starts

_ASKED = "asked"
_WORDS = "lorem ipsum "
#: Events of one pipeline, and events that may wait for one.
_BATCH, _WAITING = 512, 4_096
#: Events after which a speaker lets the others speak.
_TURN = 20
#: Seconds after which an event counts as lost.
_LOST_AFTER_S = 30.0


def _message(sequence: int) -> bytes:
    """About the bytes that Runlane publishes for such an event."""
    frame = {
        "v": 1,
        "logged": True,
        "sequence": sequence,
        "attempt": 1,
        "event": "llm.delta",
        "timestamp_ms": time.time_ns() // 1_000_000,
        "config_version": 1,
        "ids": {"run_id": "a" * 32, "session_id": "session", "agent_id": "agent", "parent_run_id": None},
        "payload": {"text": f"{time.time_ns()} {_WORDS}"},
    }
    return orjson.dumps(frame)


class _Speaker:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: list[tuple[str, bytes]] = []
        self._room = asyncio.Event()
        self._room.set()
        self._writer: asyncio.Task[None] | None = None

    async def paced(self, channel: str, count: int, rate: float, at: float) -> None:
        for number in range(count):
            pause = at + number / rate - time.time()
            if pause > 0:
                await asyncio.sleep(pause)
            await self._client.publish(channel, _message(number))

    async def unpaced(self, channel: str, count: int, rate: float, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.time()))
        for number in range(count):
            await self._room.wait()
            self._waiting.append((channel, _message(number)))
            if len(self._waiting) >= _WAITING:
                self._room.clear()
            if self._writer is None:
                self._writer = asyncio.create_task(self._write())
            if number % _TURN == 0:
                await asyncio.sleep(0)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            self._room.set()
            pipeline = self._client.pipeline(transaction=False)
            for channel, message in batch:
                pipeline.xadd(f"log:{channel}", {"f": message}, maxlen=1_000, approximate=True)
                pipeline.publish(channel, message)
            await pipeline.execute()
        self._writer = None


async def speak() -> None:
    client = connect()
    speaker = _Speaker(client)
    async with asyncio.TaskGroup() as speaking, client.pubsub(ignore_subscribe_messages=True) as asked:
        await asked.subscribe(_ASKED)
        async for message in asked.listen():
            question = orjson.loads(message["data"])
            say = speaker.paced if question["rate"] else speaker.unpaced
            for channel, at in question["speakers"].items():
                speaking.create_task(say(channel, question["count"], question["rate"], at))


class Calls:
    """Reads all channels over one connection."""

    def __init__(self) -> None:
        self._client = connect()

    async def talk(self, event: str, runs: int, count: int, rate: float, lead_s: float) -> dict[str, Any]:
        """Milliseconds from said to here of each event, and seconds from the first to the last."""
        while not (await self._client.pubsub_numsub(_ASKED))[0][1]:
            await asyncio.sleep(0.05)
        channels = [f"channel:{number}" for number in range(runs)]
        found: list[float] = []
        times: list[float] = []
        async with self._client.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(*channels)
            for _ in channels:
                await heard.get_message(timeout=1)
            speakers = dict(zip(channels, starts(runs, rate, lead_s), strict=True))
            question = {"speakers": speakers, "count": count, "rate": rate}
            await self._client.publish(_ASKED, orjson.dumps(question))
            async with asyncio.timeout(_LOST_AFTER_S):
                async for data in _data(heard):
                    now = time.time_ns()
                    said = int(orjson.loads(data)["payload"]["text"].split()[0])
                    found.append((now - said) / 1e6)
                    times.append(now / 1e9)
                    if len(found) == runs * count:
                        break
        return {"ms": found, "seconds": times[-1] - times[0]}


async def _data(heard: Any) -> AsyncGenerator[bytes, None]:
    async for message in heard.listen():
        yield message["data"]


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(speak())
