"""What a browser's EventSource does: follow a stream, and come back with the last id when the connection ends."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One event. ``cursor`` is empty if it had no id."""

    cursor: str
    kind: str
    data: dict[str, Any]


async def parse(lines: AsyncIterable[bytes]) -> AsyncGenerator[Heard, None]:
    """The events among ``lines``; one that is cut short is none."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif line.endswith(b"\n") and "data" in fields:
            yield Heard(cursor=fields.get("id", ""), kind=fields["event"], data=json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def asking(url: str, run_id: str, last_id: str = "") -> bytes:
    """The request, of HTTP/1.0: its answer is not chunked, and ends with the connection."""
    header = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    return f"GET /runs/{run_id}/stream HTTP/1.0\r\nHost: {urlsplit(url).netloc}\r\n{header}\r\n".encode()


async def listen(url: str, run_id: str, last_id: str = "") -> AsyncGenerator[Heard, None]:
    """Events behind ``last_id`` until the connection ends. Raises OSError if there is none, or it broke."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 22)
    try:
        writer.write(asking(url, run_id, last_id))
        status = await reader.readline()
        if not status:
            raise ConnectionError("it ended before it answered")
        assert status.split()[1] == b"200", status
        while (await reader.readline()).strip():
            pass
        async with aclosing(parse(reader)) as events:
            async for event in events:
                yield event
    finally:
        writer.close()


async def come_and_go(url: str, run_id: str, *, every: int | None = None, seed: int = 0) -> list[Heard]:
    """All chunks that a client gets who comes back whenever its connection ends; of its own it leaves after ``every``
    chunks or so.
    """
    chance, held = random.Random(seed), list[Heard]()
    while not held or held[-1].kind != "run.finished":
        leaves_after = len(held) + chance.randint(1, 2 * every) if every else None
        try:
            async with aclosing(listen(url, run_id, held[-1].cursor if held else "")) as events:
                async for event in events:
                    if event.cursor:
                        assert not held or int(event.cursor) > int(held[-1].cursor), "it holds that chunk already"
                        held.append(event)
                    if len(held) == leaves_after:
                        break
        except OSError:  # nobody listens there for now
            await asyncio.sleep(0.05)
    return held
