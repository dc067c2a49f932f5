"""Client: the same verbs without an event loop, against a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from producer.sync_client import Client, SyncRunHandle
from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import (
    InvalidInputError,
    QueueFull,
    RunConflict,
    RunlaneError,
    RunNotFound,
    StoreUnavailable,
)
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


def execute(url: str, run_id: str, output: Any = "hi") -> None:
    async def attempt() -> None:
        redis = connect(url)
        by_hand = await AttemptByHand.begin(redis, run_id, 64)
        await by_hand.emit("llm.delta", text="hi")
        await by_hand.finish(final_output=output)
        await redis.aclose()

    asyncio.run(attempt())


def test_a_run_is_submitted_streamed_and_finished_without_a_loop(server: EmbeddedRedis, client: Client) -> None:
    handle = client.submit(hello("one"))
    chunks = handle.stream()
    assert next(chunks).kind == "run.queued"
    execute(server.url, "one")
    assert [chunk.kind for chunk in chunks] == ["run.started", "llm.delta", "run.finished"]
    assert handle.result().final_output == "hi"
    assert handle.get().state is RunState.FINISHED
    assert [frame.sequence for frame in client.events("one")] == [1, 2, 3, 4]


class Answer(BaseModel):
    number: int


def test_a_finished_result_is_read_on_the_calling_thread(server: EmbeddedRedis, client: Client) -> None:
    handle = client.submit(hello("direct").model_copy(update={"output_type": Answer}))
    execute(server.url, "direct", {"number": 7})
    with connect_sync(server.url) as redis:
        redis.config_resetstat()
        assert handle.result().final_output == Answer(number=7)
        commands: Any = redis.info("commandstats")
        assert commands["cmdstat_hmget"]["calls"] == 1
        redis.flushall()
    with pytest.raises(RunNotFound):
        handle.result()


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


def test_submits_of_many_threads_are_all_accepted_over_a_connection_each(server: EmbeddedRedis, client: Client) -> None:
    with ThreadPoolExecutor(4) as threads:
        handles = list(threads.map(lambda number: client.submit(hello(f"run-{number}", f"s{number}")), range(200)))
    assert [handle.run_id for handle in handles] == [f"run-{number}" for number in range(200)]
    assert all(handle.created for handle in handles)
    assert len(client.runs(limit=300).rows) == 200
    with connect_sync(server.url) as redis:
        assert len(redis.client_list()) <= 8


def test_a_submit_survives_the_loss_of_its_connection_and_of_the_scripts(server: EmbeddedRedis, client: Client) -> None:
    client.submit(hello("before"))
    with connect_sync(server.url) as redis:
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.script_flush()
    assert client.submit(hello("after", "other")).created


def test_an_exception_in_a_submit_leaves_no_reply_for_the_next(server: EmbeddedRedis, client: Client) -> None:
    client.submit(hello("first"))

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            client.submit(hello("interrupted", "other"))
    finally:
        os.kill(server.pid, signal.SIGCONT)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(RunConflict):
        client.submit(hello("first", "another session"))


def test_submit_refuses_in_the_words_of_the_async_client(server: EmbeddedRedis, client: Client) -> None:
    with pytest.raises(InvalidInputError, match="session_id: Field required"):
        client.submit(agent_id="a", input_text="x")
    client.submit(hello("known"))
    with pytest.raises(RunConflict):
        client.submit(hello("known", "other"))
    with Client(server.url, session_limit=1) as narrow, pytest.raises(QueueFull, match="1 unfinished runs"):
        narrow.submit(hello("one-more"))
    with Client("redis://user:secret@127.0.0.1:1/0") as away:
        with pytest.raises(StoreUnavailable, match=r"\*\*\*@127\.0\.0\.1:1") as caught:
            away.submit(hello("never"))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "word", "advice"),
    [("CONFIG SET maxmemory 1", "OOM", "raise its maxmemory"), ("REPLICAOF 127.0.0.1 1", "READONLY", "the primary")],
)
def test_submit_tells_a_redis_that_cannot_write_from_one_that_is_away(command: str, word: str, advice: str) -> None:
    with EmbeddedRedis() as server, connect_sync(server.url) as console, Client(server.url) as client:
        client.submit(hello("before"))
        console.execute_command(*command.split())
        with pytest.raises(StoreUnavailable, match=f"does not serve now: {word}") as refused:
            client.submit(hello("after"))
        assert advice in str(refused.value)


def test_a_redis_that_goes_under_an_open_client_is_named(client: Client) -> None:
    with EmbeddedRedis() as server, Client(server.url) as lost:
        lost.submit(hello("before"))
        server.stop()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            lost.submit(hello("after"))


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
    with pytest.raises(RunlaneError, match="closed"):
        client.submit(hello("late"))


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
            for call in (lambda: client.get("parents"), lambda: client.submit(hello("childs"))):
                try:
                    call()
                except RunlaneError as error:
                    if "forked" not in str(error):
                        os._exit(1)
            client.close()
            os._exit(7)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert client.submit(hello("parents", "s2")).created is False
