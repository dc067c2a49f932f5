"""Client: the verbs of AsyncClient for code without an event loop.

It drives an AsyncClient on a loop thread of its own; there is no second implementation.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from producer.client import DEFAULT_URL, AsyncClient
from producer.handle import RunHandle
from producer.requests import RequestFields
from runtime_core.contracts.dead_letter import DeadLetter
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.run import RunRecord, RunRequest, RunResult
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import RunlaneError
from runtime_core.ids import DEFAULT_TENANT
from runtime_core.store.dead_letters import DeadLetterEntry
from runtime_core.store.runs import DEFAULT_PARTITION_LIMIT, DEFAULT_SESSION_LIMIT, CancelOutcome

T = TypeVar("T")


class SyncRunHandle:
    """RunHandle for code without an event loop."""

    def __init__(self, client: Client, handle: RunHandle) -> None:
        self._client = client
        self.run_id = handle.run_id
        self.session_id = handle.session_id
        self.created = handle.created

    def __repr__(self) -> str:
        return f"SyncRunHandle(run_id={self.run_id!r}, session_id={self.session_id!r})"

    def stream(self, after: int = 0) -> Iterator[RunStreamChunk]:
        return self._client.stream(self.run_id, after=after)

    def result(self, timeout: float | None = None) -> RunResult:
        return self._client.result(self.run_id, timeout=timeout)

    def get(self) -> RunRecord:
        return self._client.get(self.run_id)

    def cancel(self) -> CancelOutcome:
        return self._client.cancel(self.run_id)


class Client:
    """AsyncClient without ``await``: same verbs, same errors. Safe to use from several threads; close it.

    Its thread does not survive a fork: make one in each process.
    Iterators are read item by item: what the caller does not ask for waits in a bounded buffer.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        tenant: str = DEFAULT_TENANT,
        partitions: int | None = None,
        session_limit: int = DEFAULT_SESSION_LIMIT,
        partition_limit: int = DEFAULT_PARTITION_LIMIT,
    ) -> None:
        self._client = AsyncClient(
            url,
            tenant=tenant,
            partitions=partitions,
            session_limit=session_limit,
            partition_limit=partition_limit,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runlane client", daemon=True)
        self._thread.start()
        self._pid = os.getpid()
        #: Guards ``_closing``: what was handed to the loop before it was set is ended by close.
        self._entry = threading.Lock()
        self._closing = False
        self._calls: set[asyncio.Task[Any] | None] = set()
        self._iterators: set[AsyncGenerator[Any, None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tenant(self) -> str:
        return self._client.tenant

    def close(self) -> None:
        """Close the connections and end the thread; may be called twice. Runs go on, calls that wait are ended."""
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

    def submit(self, request: RunRequest | None = None, **fields: Unpack[RequestFields]) -> SyncRunHandle:
        return SyncRunHandle(self, self._wait(self._client.submit(request, **fields)))

    def submit_many(self, requests: Sequence[RunRequest]) -> list[SyncRunHandle | RunlaneError]:
        outcomes = self._wait(self._client.submit_many(requests))
        return [SyncRunHandle(self, outcome) if isinstance(outcome, RunHandle) else outcome for outcome in outcomes]

    def handle(self, run_id: str) -> SyncRunHandle:
        return SyncRunHandle(self, self._client.handle(run_id))

    def run(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> Any:
        return self._wait(self._client.run(request, timeout=timeout, **fields))

    def run_detailed(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> RunResult:
        return self._wait(self._client.run_detailed(request, timeout=timeout, **fields))

    def run_stream(
        self,
        request: RunRequest | None = None,
        *,
        on_disconnect: Literal["continue", "cancel"] = "continue",
        **fields: Unpack[RequestFields],
    ) -> Generator[RunStreamChunk, None, None]:
        return self._iterate(self._client.run_stream(request, on_disconnect=on_disconnect, **fields))

    def stream(self, run_id: str, *, after: int = 0) -> Generator[RunStreamChunk, None, None]:
        return self._iterate(self._client.stream(run_id, after=after))

    def result(self, run_id: str, *, timeout: float | None = None) -> RunResult:
        return self._wait(self._client.result(run_id, timeout=timeout))

    def get(self, run_id: str) -> RunRecord:
        return self._wait(self._client.get(run_id))

    def cancel(self, run_id: str) -> CancelOutcome:
        return self._wait(self._client.cancel(run_id))

    def dead_letters(self, *, limit: int | None = 100) -> Sequence[DeadLetterEntry]:
        return self._wait(self._client.dead_letters(limit=limit))

    def dead_letter(self, run_id: str) -> DeadLetter:
        return self._wait(self._client.dead_letter(run_id))

    def redrive(self, run_id: str) -> SyncRunHandle:
        return SyncRunHandle(self, self._wait(self._client.redrive(run_id)))

    def events(self, run_id: str = "*") -> Generator[Frame, None, None]:
        return self._iterate(self._client.events(run_id))

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the loop thread. An exception in the waiting thread, Ctrl-C above all, cancels what it waited for."""
        if os.getpid() != self._pid:
            coroutine.close()
            raise RunlaneError("the client was made before this process was forked", hint="make it after the fork")
        with self._entry:
            if self._closing:
                coroutine.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(self._call(coroutine), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    async def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        self._calls.add(task)
        try:
            return await coroutine
        finally:
            self._calls.discard(task)

    def _iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
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
            while item := self._wait(following()):
                yield item[0]
        finally:
            if not self._closing and os.getpid() == self._pid:
                self._wait(leave())

    async def _shut_down(self) -> None:
        """End the calls, then the iterators between two items (which may have a run to cancel), then the client."""
        calls = [task for task in self._calls if task is not None]
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(items.aclose() for items in self._iterators), return_exceptions=True)
        await self._client.aclose()


def _closed() -> RunlaneError:
    return RunlaneError("the client is closed", hint="make a new one")
