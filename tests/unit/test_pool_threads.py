"""The two threads of the asyncio pool, and the bridge between its synchronous and its asynchronous side."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextvars import ContextVar
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown

from workers.pool.asyncio_pool import TaskPool
from workers.pool.greenlets import await_, run_in_greenlet
from workers.pool.hub_queue import ConsumerRestart, HubQueue
from workers.pool.loop_thread import LoopThread

variable: ContextVar[str] = ContextVar("variable")


async def soon(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def failing() -> None:
    raise ValueError("from the coroutine")


async def test_a_synchronous_body_awaits_and_returns() -> None:
    assert await run_in_greenlet(lambda: [await_(soon(1)), await_(soon(2))]) == [1, 2]


async def test_an_exception_crosses_the_bridge_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="from the coroutine") as caught:
        await run_in_greenlet(lambda: await_(failing()))
    assert "failing" in [entry.name for entry in caught.traceback]


async def test_a_body_may_handle_what_a_coroutine_raised() -> None:
    def body() -> str:
        try:
            await_(failing())
        except ValueError:
            return await_(soon("handled"))
        return "not raised"

    assert await run_in_greenlet(body) == "handled"


async def test_a_cancellation_is_raised_in_the_coroutine_and_then_in_the_body() -> None:
    seen: list[str] = []
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("coroutine")
            raise

    def body() -> None:
        try:
            await_(wait())
        except asyncio.CancelledError:
            seen.append("body")
            raise

    task = asyncio.create_task(run_in_greenlet(body))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["coroutine", "body"]


async def test_body_and_coroutine_share_one_context() -> None:
    async def read_and_set() -> str:
        value = variable.get()
        variable.set("by the coroutine")
        return value

    def body() -> list[str]:
        token = variable.set("by the body")
        seen = [await_(read_and_set()), variable.get()]
        variable.reset(token)
        return seen

    assert await run_in_greenlet(body) == ["by the body", "by the coroutine"]


async def test_many_bodies_interleave() -> None:
    arrived = asyncio.Barrier(100)

    async def meet(number: int) -> int:
        await arrived.wait()
        return number

    def body(number: int) -> Callable[[], int]:
        return lambda: await_(meet(number))

    assert await asyncio.gather(*(run_in_greenlet(body(n)) for n in range(100))) == list(range(100))


def test_await_outside_of_a_body_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="in a coroutine use await"):
        await_(soon(1))


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    thread.start()
    yield thread
    thread.stop()


def test_a_coroutine_runs_on_the_loops_own_thread(thread: LoopThread) -> None:
    async def where() -> str:
        return threading.current_thread().name

    assert thread.submit(where()).result(5) == "test"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_no_coroutine_stops_the_loop(thread: LoopThread, error: type[BaseException]) -> None:
    async def leave() -> None:
        raise error

    future = thread.submit(leave())
    with pytest.raises(error):
        future.result(5)
    assert thread.submit(soon("alive")).result(5) == "alive"


def test_stop_cancels_what_still_runs(thread: LoopThread) -> None:
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    future = thread.submit(wait())
    assert started.wait(5)
    thread.stop()
    with pytest.raises(CancelledError):
        future.result(5)
    with pytest.raises(RuntimeError):
        thread.submit(soon(1))
    thread.stop()


class FakeHub:
    """Serves readers when told to, as Celery's hub does when poll says so."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def serve(self) -> None:
        for callback in self.readers.values():
            callback()


def test_calls_are_made_in_order_also_those_from_before_a_hub_was_there() -> None:
    queue, hub, seen = HubQueue(), FakeHub(), list[int]()
    queue.call(seen.append, 1)
    queue.register(hub)
    queue.call(seen.append, 2)
    hub.serve()
    hub.serve()
    assert seen == [1, 2]


def test_a_call_that_fails_is_logged_and_the_next_is_made(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit(1)

    queue, seen = HubQueue(), list[int]()
    queue.call(fail)
    queue.call(seen.append, 1)
    queue.drain()
    assert seen == [1]
    assert "call on the hub failed" in caplog.text


def test_celerys_own_order_to_shut_down_passes() -> None:
    def shut_down() -> None:
        raise WorkerShutdown(0)

    queue = HubQueue()
    queue.call(shut_down)
    with pytest.raises(WorkerShutdown):
        queue.drain()


def test_calls_behind_a_restart_of_the_consumer_wake_the_next_hub() -> None:
    def restart() -> None:
        raise ConsumerRestart

    queue, seen = HubQueue(), list[int]()
    queue.call(restart)
    queue.call(seen.append, 1)
    with pytest.raises(ConsumerRestart):
        queue.drain()
    assert select.select([queue._event], [], [], 0)[0]
    queue.drain()
    assert seen == [1]


def test_a_call_that_queues_itself_again_does_not_hold_the_hub() -> None:
    queue, seen = HubQueue(), list[int]()

    def again() -> None:
        seen.append(1)
        queue.call(again)

    queue.call(again)
    queue.drain()
    assert seen == [1]
    queue.wait(timeout=0)
    queue.drain()
    assert seen == [1, 1]


def test_wait_ends_when_another_thread_calls() -> None:
    queue, seen = HubQueue(), list[int]()
    caller = threading.Thread(target=queue.call, args=(seen.append, 1))
    caller.start()
    queue.wait(timeout=5)
    queue.drain()
    caller.join()
    assert seen == [1]


def test_celery_may_hold_as_many_messages_as_there_are_slots_less_those_on_their_way() -> None:
    pool = TaskPool(limit=4)
    assert pool.num_processes == 4
    pool.reserved = 3
    assert pool.num_processes == 1
    pool.waiting = 2
    assert pool.num_processes == 3


def test_a_call_that_comes_while_the_hub_is_woken_costs_no_later_one_its_wake_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wake-up stands for all calls until the hub reads it; one that is made just before the read is in this drain."""
    queue, made = HubQueue(), list[str]()
    read = os.eventfd_read

    def read_late(event: int) -> int:
        queue.call(made.append, "just before")
        return read(event)

    queue.call(made.append, "first")
    monkeypatch.setattr(os, "eventfd_read", read_late)
    queue.drain()
    monkeypatch.setattr(os, "eventfd_read", read)
    assert made == ["first", "just before"]

    queue.call(made.append, "later")
    queue.wait(5.0)
    assert select.select([queue._event], [], [], 0)[0], "nobody would have woken the hub"
    queue.drain()
    assert made[-1] == "later"


def test_calls_of_a_loop_share_a_wake_up_and_keep_their_order(thread: LoopThread) -> None:
    made, done = list[int](), threading.Event()
    woken: list[object] = []
    wake = thread.loop.call_soon_threadsafe
    hold = threading.Event()
    thread.call(hold.wait)
    thread.loop.call_soon_threadsafe = lambda *call: woken.append(wake(*call))  # type: ignore[method-assign]
    for number in range(100):
        thread.call(made.append, number)
    thread.call(failing_call)
    thread.call(done.set)
    hold.set()

    assert done.wait(5.0), "an exception of one call stopped those behind it"
    assert made == list(range(100))
    assert len(woken) <= 1


def failing_call() -> None:
    raise ValueError("of one call")
