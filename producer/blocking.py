"""How code without an event loop drives an asynchronous client: on a loop thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from runtime_core.errors import RunlaneError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines of one client for callers of any thread. Its thread does not survive a fork.

    Iterators are read item by item: what the caller does not ask for waits in a bounded buffer.
    """

    def __init__(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._pid = os.getpid()
        #: Guards ``_closing``: what was handed to the loop before it was set is ended by close.
        self._entry = threading.Lock()
        self._closing = False
        self._calls: set[asyncio.Task[Any] | None] = set()
        self._iterators: set[AsyncGenerator[Any, None]] = set()

    def close(self) -> None:
        """Close the client and end the thread; may be called twice. Calls that wait are ended."""
        if os.getpid() != self._pid:
            return  # it is the parent's to close
        with self._entry:
            if self._closing:
                return
            self._closing = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def check_usable(self) -> None:
        """Raise RunlaneError if the client was closed, or made before this process was forked."""
        if os.getpid() != self._pid:
            raise RunlaneError("the client was made before this process was forked", hint="make it after the fork")
        if self._closing:
            raise _closed()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the loop thread. An exception in the waiting thread, Ctrl-C above all, cancels what it waited for."""
        try:
            self.check_usable()
            with self._entry:
                self.check_usable()
                future = asyncio.run_coroutine_threadsafe(self._call(coroutine), self._loop)
        except RunlaneError:
            coroutine.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """The items as they come; to leave closes ``items``."""
        turn = asyncio.Lock()  # a step that was cancelled just now still runs when the caller leaves

        async def following() -> list[T]:
            """The next item, or nothing: StopAsyncIteration cannot travel through a future."""
            async with turn:
                self._iterators.add(items)
                try:
                    return [await anext(items)]
                except StopAsyncIteration:
                    return []

        async def leave() -> None:
            async with turn:
                self._iterators.discard(items)
                await items.aclose()

        try:
            while item := self.wait(following()):
                yield item[0]
        finally:
            if not self._closing and os.getpid() == self._pid:
                self.wait(leave())

    async def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        self._calls.add(task)
        try:
            return await coroutine
        finally:
            self._calls.discard(task)

    async def _shut_down(self) -> None:
        """End the calls, then the iterators between two items (which may have a run to cancel), then the client."""
        calls = [task for task in self._calls if task is not None]
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(items.aclose() for items in self._iterators), return_exceptions=True)
        await self._close()


def _closed() -> RunlaneError:
    return RunlaneError("the client is closed", hint="make a new one")
