"""redis-py's own pub/sub, nothing around it: what the stream is measured beside.

``python -m tests.benchmarks.raw URL`` is the publisher. It publishes one JSON object for each piece, to the channels
that it is asked for.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.frame import Frame, RunIds, encode_frame
from runtime_core.store.connection import connect
from tests.benchmarks.agents.talk import latencies_ms, pieces

_ASKED = "asked"
#: Publishes under way at once: redis-py opens a connection for each, and its pool raises beyond a hundred.
_CONNECTIONS = 50
#: Seconds beyond the length of a talk after which a piece counts as lost.
_LOST_AFTER_S = 30.0
_IDS = RunIds(run_id="a" * 32, session_id="session", agent_id="talker")


def _message(text: str) -> bytes:
    """The bytes that Runlane publishes for such a piece."""
    return encode_frame(
        Frame(
            logged=True,
            sequence=1,
            attempt=1,
            event="llm.delta",
            timestamp_ms=time.time_ns() // 1_000_000,
            ids=_IDS,
            config_version=1,
            payload={"text": text},
        )
    )


async def publish(url: str) -> None:
    """Serve until ended."""
    redis = connect(url)

    slots = asyncio.Semaphore(_CONNECTIONS)

    async def say(channel: str, count: int, rate: float) -> None:
        async for piece in pieces(count, rate):
            async with slots:
                await redis.publish(channel, _message(piece))

    async with asyncio.TaskGroup() as saying, redis.pubsub(ignore_subscribe_messages=True) as asked:
        await asked.subscribe(_ASKED)
        async for message in asked.listen():
            question = json.loads(message["data"])
            for channel in question["channels"]:
                saying.create_task(say(channel, question["count"], question["rate"]))


class RawPubSub:
    """The subscriber, in this process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @classmethod
    @asynccontextmanager
    async def start(cls, url: str) -> AsyncGenerator[RawPubSub]:
        publisher = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.raw", url])
        redis = connect(url)
        try:
            while not (await redis.pubsub_numsub(_ASKED))[0][1]:
                await asyncio.sleep(0.05)
            yield cls(redis)
        finally:
            await redis.aclose()
            publisher.terminate()
            publisher.wait()

    async def first_ms(self) -> float:
        """Asked → the first piece is here."""
        async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe("first")
            await heard.get_message(timeout=1)
            began = time.perf_counter()
            await self._ask(["first"], 1, 1)
            async for _ in heard.listen():
                break
            return (time.perf_counter() - began) * 1000

    async def latencies_ms(self, clients: int, count: int, rate: float) -> list[float]:
        """Said → here, of ``count`` pieces on each of ``clients`` channels, read over one connection."""
        channels = [f"channel {number}" for number in range(clients)]
        found: list[float] = []
        async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(*channels)
            for _ in channels:
                await heard.get_message(timeout=1)
            await self._ask(channels, count, rate)
            async with asyncio.timeout(count / rate + _LOST_AFTER_S):
                async for message in heard.listen():
                    found += latencies_ms(json.loads(message["data"])["payload"]["text"])
                    if len(found) == clients * count:
                        break
        return found

    async def _ask(self, channels: list[str], count: int, rate: float) -> None:
        question: dict[str, Any] = {"channels": channels, "count": count, "rate": rate}
        await self._redis.publish(_ASKED, json.dumps(question))


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1]))
