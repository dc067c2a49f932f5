"""A server that somebody would write with sse-starlette: one pub/sub connection, an event for each message.

It takes the same messages as the gateway and passes them on as they are; it reads no log, numbers the events of each
stream itself, and knows no run. ``python -m tests.benchmarks.peers.sse_server PORT``, and ``GET /<channel>``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent  # pyright: ignore[reportMissingImports]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_CHANNELS = "rl:{p????}:events:*"
_PING_S = 15

_readers: dict[str, asyncio.Queue[str]] = {}


async def _distribute(subscribed: asyncio.Event) -> None:
    client = redis.asyncio.Redis.from_url(  # noqa: TID251  # a peer knows nothing of our connections
        os.environ["BENCH_REDIS_URL"], decode_responses=True, socket_timeout=None
    )
    async with client.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.psubscribe(_CHANNELS)
        await heard.get_message(timeout=5)
        subscribed.set()
        async for message in heard.listen():
            if reader := _readers.get(message["channel"]):
                reader.put_nowait(message["data"])


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncGenerator[None]:
    subscribed = asyncio.Event()
    distributing = asyncio.create_task(_distribute(subscribed))
    await subscribed.wait()
    yield
    distributing.cancel()


async def _stream(request: Request) -> Response:
    channel = request.path_params["channel"]
    reader = _readers[channel] = asyncio.Queue[str]()

    async def events() -> AsyncIterator[ServerSentEvent]:
        number = 0
        while True:
            data = await reader.get()
            number += 1
            yield ServerSentEvent(id=str(number), event="llm.delta", data=data, sep="\n")

    return EventSourceResponse(events(), ping=_PING_S, sep="\n")


if __name__ == "__main__":
    app = Starlette(routes=[Route("/{channel:path}", _stream)], lifespan=_lifespan)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
