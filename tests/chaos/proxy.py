"""A TCP proxy in front of Redis that can cut, slow down and hold back what passes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class Proxy:
    """One listening port; a context manager. Every worker has its own, so that a fault can meet it alone."""

    def __init__(self, upstream: int, *, host: str = "127.0.0.1") -> None:
        self._host = host
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        #: Seconds by which each read is forwarded late, in both directions.
        self.delay_s = 0.0
        #: Whether what Redis says to subscribers is dropped.
        self.muted = False

    @property
    def url(self) -> str:
        assert self._server is not None, "the proxy is not started"
        return f"redis://{self._host}:{self._server.sockets[0].getsockname()[1]}/0"

    @property
    def connections(self) -> int:
        """How many pass through it now."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._open.set()
        self.cut()

    def cut(self) -> None:
        """Break every connection that there is; new ones are welcome."""
        for writer in self._connections:
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing pass until ``release``; connections stay."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def unmute(self) -> None:
        """Subscribers hear again, on new connections: the old ones may have lost half a message."""
        self.muted = False
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            from_redis, upstream = await asyncio.open_connection(self._host, self._upstream)
            if upstream.get_extra_info("sockname") == upstream.get_extra_info("peername"):
                return  # connected to itself, as TCP may while nobody listens
            connection = _Connection(self, self._open)
            pumps = [
                asyncio.create_task(connection.ask(reader, upstream)),
                asyncio.create_task(connection.answer(from_redis, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:  # Redis is away, and so are we for this client
            pass
        finally:
            self._connections.discard(writer)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()


class _Connection:
    def __init__(self, proxy: Proxy, opened: asyncio.Event) -> None:
        self._proxy = proxy
        self._open = opened
        self._subscribed = False

    async def ask(self, client: asyncio.StreamReader, redis: asyncio.StreamWriter) -> None:
        while data := await client.read(_CHUNK):
            self._subscribed = self._subscribed or b"SUBSCRIBE\r\n" in data
            await self._pass_on(data, redis)

    async def answer(self, redis: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await redis.read(_CHUNK):
            if not (self._subscribed and self._proxy.muted):
                await self._pass_on(data, client)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._proxy.delay_s:
            await asyncio.sleep(self._proxy.delay_s)
        await self._open.wait()
        writer.write(data)
        await writer.drain()
