"""Client: the same verbs without an event loop, against a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from producer.sync_client import Client, SyncRunHandle
from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import RunConflict, RunlaneError, RunNotFound
from runtime_core.store.connection import connect, connect_sync
from runtime_core.store.runs import CancelOutcome
from tests.integration.attempt_by_hand import AttemptByHand


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Client]:
    with connect_sync(server.url) as redis:
        redis.flushall()
    with Client(server.url) as client:
        yield client


def hello(run_id: str, session_id: str = "s") -> RunRequest:
    return RunRequest(agent_id="a", session_id=session_id, input_text="hello", run_id=run_id)


def execute(url: str, run_id: str) -> None:
    async def attempt() -> None:
        redis = connect(url)
        by_hand = await AttemptByHand.begin(redis, run_id, 64)
        await by_hand.emit("llm.delta", text="hi")
        await by_hand.finish(final_output="hi")
        await redis.aclose()

    asyncio.run(attempt())


def test_a_run_is_submitted_streamed_and_finished_without_a_loop(server: EmbeddedRedis, client: Client) -> None:
    handle = client.submit(hello("one"))
    chunks = handle.stream()
    assert next(chunks).kind == "run.queued"
    execute(server.url, "one")
    assert [chunk.kind for chunk in chunks] == ["llm.delta", "run.finished"]
    assert handle.result().final_output == "hi"
    assert handle.get().state is RunState.FINISHED
    assert [frame.sequence for frame in client.events("one")] == [1, 2, 3]


def test_a_stream_may_be_left_and_the_run_cancelled(client: Client) -> None:
    chunks = client.run_stream(hello("left"), on_disconnect="cancel")
    assert next(chunks).sequence == 1
    chunks.close()
    assert client.get("left").status is StopReason.CANCELLED
    assert client.cancel("left") is CancelOutcome.FINISHED


def test_errors_are_those_of_the_async_client(client: Client) -> None:
    with pytest.raises(RunNotFound):
        client.handle("nope").result()
    one, two = client.submit_many([hello("x"), hello("x", "other")])
    assert isinstance(one, SyncRunHandle)
    assert isinstance(two, RunConflict)
    with pytest.raises(TimeoutError, match="goes on"):
        one.result(timeout=0.01)


def test_close_ends_the_thread_and_later_calls_say_so(server: EmbeddedRedis) -> None:
    before = threading.active_count()
    client = Client(server.url)
    chunks = client.run_stream(hello("open"))
    next(chunks)
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(RunlaneError, match="closed"):
        client.get("open")


def test_close_ends_what_other_threads_wait_for(server: EmbeddedRedis) -> None:
    client = Client(server.url)
    client.submit(hello("queued", "never"))
    between_two_items = client.stream("queued")
    assert next(between_two_items).kind == "run.queued"
    in_between = threading.Barrier(4)
    ended: list[str] = []

    def follow() -> None:
        chunks = client.stream("queued")
        next(chunks)
        in_between.wait(10)
        with pytest.raises(RunlaneError, match="the client is closed"):
            next(chunks)
        ended.append("queued")

    threads = [threading.Thread(target=follow, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    in_between.wait(10)
    client.close()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3
    with pytest.raises(RunlaneError, match="the client is closed"):
        next(between_two_items)


def test_an_exception_in_a_waiting_thread_leaves_the_iterator_in_order(client: Client) -> None:
    client.submit(hello("waiting", "alone"))
    chunks = client.stream("waiting")
    assert next(chunks).kind == "run.queued"

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            next(chunks)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert client.get("waiting").state is RunState.QUEUED


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_make_its_own_client(client: Client) -> None:
    client.submit(hello("parents", "s2"))
    child = os.fork()
    if child == 0:
        try:
            client.get("parents")
        except RunlaneError as error:
            client.close()
            os._exit(7 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert client.submit(hello("parents", "s2")).created is False
