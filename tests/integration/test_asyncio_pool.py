"""What Celery promises about tasks holds for coroutines: seen on a real worker, through its events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime_core.embedded import EmbeddedRedis
from tests.integration.celery_worker import CeleryWorker, PlainClient, wait_until

SLOTS = 50


@pytest.fixture(scope="module")
def client(redis_server: EmbeddedRedis) -> Iterator[PlainClient]:
    with PlainClient(redis_server.url) as client:
        client.redis.flushall()
        yield client


@pytest.fixture(scope="module")
def worker(client: PlainClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryWorker]:
    with CeleryWorker(client, tmp_path_factory.mktemp("pool") / "pool.log", slots=SLOTS) as worker:
        yield worker


@pytest.fixture(autouse=True)
def worker_survives(worker: CeleryWorker, client: PlainClient) -> Iterator[None]:
    """Whatever a test does to the worker, the worker serves on and every slot is free again."""
    yield
    client.event(client.send("whoami", 0), "task-succeeded")
    assert worker.process.poll() is None
    wait_until(lambda: pool_info(worker)["running"] == 0, "every slot is free")


def pool_info(worker: CeleryWorker) -> dict[str, Any]:
    replies: Any = worker.client.app.control.inspect([worker.name], timeout=5, limit=1).stats()
    return replies[worker.name]["pool"]


def test_the_current_task_is_seen_in_coroutines_and_child_tasks_of_each_of_40_at_once(client: PlainClient) -> None:
    tasks = [client.send("whoami", 0.05 + (n % 7) * 0.02) for n in range(40)]
    for task in tasks:
        client.event(task, "task-succeeded")
    # Rows: the body, its coroutine, a child task, a gathered coroutine. Columns: current_task, self.request, a
    # context variable that a signal handler set before the body.
    assert [client.seen(task) for task in tasks] == [[[[task] * 3] * 4] for task in tasks]


def test_a_success_carries_its_result(client: PlainClient) -> None:
    task = client.send("hold")
    client.wait_seen(task, "started")
    client.go(task)
    assert client.event(task, "task-succeeded")["result"] == "'held'"
    assert client.events_of(task) == ["task-received", "task-started", "task-succeeded"]


def test_an_exception_in_a_coroutine_is_the_tasks_failure(client: PlainClient) -> None:
    task = client.send("boom")
    failed = client.event(task, "task-failed")
    assert failed["exception"] == "ValueError('boom')"
    assert "in fail" in failed["traceback"]


def test_a_soft_limit_is_raised_in_the_body_which_may_go_on(client: PlainClient) -> None:
    task = client.send("hold_softly")
    assert client.event(task, "task-succeeded")["result"] == "'in time'"
    assert client.seen(task) == ["started", "cancelled by soft", "cleaned up"]


def test_a_body_that_asks_for_it_is_told_of_its_end_and_not_cancelled(client: PlainClient) -> None:
    task = client.send("told")
    assert client.event(task, "task-succeeded")["result"] == "'not cut short'"
    assert client.seen(task) == ["told of soft"]


def test_a_hard_limit_is_reported_after_the_coroutine_has_ended(client: PlainClient) -> None:
    task = client.send("hold_hard")
    assert "TimeLimitExceeded" in client.event(task, "task-failed")["exception"]
    assert client.seen(task) == ["started", "cancelled by hard"]


def test_a_coroutine_that_swallows_cancellation_is_abandoned_and_reported(
    client: PlainClient, worker: CeleryWorker
) -> None:
    task = client.send("stubborn")
    assert "TimeLimitExceeded" in client.event(task, "task-failed")["exception"]
    wait_until(lambda: client.redis.exists("seen:abandoned"), "the hook hears of it")
    assert pool_info(worker)["running"] == 0
    assert "ended" not in client.seen(task)
    client.go(task)
    client.wait_seen(task, "ended")
    assert client.events_of(task).count("task-failed") == 1
    assert "task-succeeded" not in client.events_of(task)


def test_revoke_with_terminate_cancels_the_coroutine(client: PlainClient) -> None:
    task = client.send("hold")
    client.wait_seen(task, "started")
    client.app.control.revoke(task, terminate=True)
    client.event(task, "task-revoked")
    client.wait_seen(task, "cancelled by terminate")
    assert client.events_of(task)[-1] == "task-revoked"


@pytest.mark.parametrize(
    ("where", "what"),
    [("body", "SystemExit"), ("coroutine", "SystemExit"), ("child", "SystemExit"), ("keyboard", "KeyboardInterrupt")],
)
def test_an_attempt_to_exit_fails_the_task_and_not_the_worker(client: PlainClient, where: str, what: str) -> None:
    task = client.send("exits", where)
    assert what in client.event(task, "task-failed")["exception"]


def test_a_control_command_is_answered_while_tasks_run(client: PlainClient, worker: CeleryWorker) -> None:
    task = client.send("hold")
    client.wait_seen(task, "started")
    assert worker.ask("poll_age") < 2
    client.go(task)
    client.event(task, "task-succeeded")


def test_slots_grow_and_shrink(client: PlainClient, worker: CeleryWorker) -> None:
    worker.ask("pool_grow", n=5)
    assert pool_info(worker)["max-concurrency"] == SLOTS + 5
    worker.ask("pool_shrink", n=5)
    assert pool_info(worker)["max-concurrency"] == SLOTS


def test_a_running_task_outlives_the_loss_of_every_connection(client: PlainClient, worker: CeleryWorker) -> None:
    task = client.send("hold")
    client.wait_seen(task, "started")
    for connection in worker.connections():
        client.redis.client_kill_filter(_id=connection)
    client.go(task)
    client.wait_seen(task, "ended")
    wait_until(lambda: len(worker.connections()) >= 2, "the worker is connected again")
    client.event(client.send("whoami", 0), "task-succeeded")
    assert worker.ask("poll_age") < 2


def test_a_body_that_waits_without_its_slot_lets_others_run(client: PlainClient, tmp_path: Path) -> None:
    with CeleryWorker(client, tmp_path / "narrow.log", queues="runs.p0001", slots=1):
        waiting = client.send("wait_without_slot", queue="runs.p0001")
        client.wait_seen(waiting, "started")
        client.event(client.send("whoami", 0, queue="runs.p0001"), "task-succeeded")
        holding = client.send("hold", queue="runs.p0001")
        client.wait_seen(holding, "started")
        # The one slot is taken: the next stays in Redis, where another worker could take it.
        held_back = client.send("whoami", 0, queue="runs.p0001")
        assert client.redis.llen("runs.p0001") == 1
        client.go(holding)
        client.event(held_back, "task-succeeded")
        client.go(waiting)
        client.event(waiting, "task-succeeded")


def test_intake_is_bounded_by_slots(client: PlainClient, tmp_path: Path) -> None:
    tasks = [client.send("hold", queue="runs.p0001") for _ in range(60)]
    with CeleryWorker(client, tmp_path / "bounded.log", queues="runs.p0001", slots=4):
        for _ in range(len(tasks)):
            running = wait_until(lambda: [t for t in tasks if client.seen(t) == ["started"]], "some task has started")
            assert len(running) <= 4
            # In the worker's hands are those that run, and at most one that a poll in flight brought.
            ended = [t for t in tasks if "ended" in client.seen(t)]
            assert client.redis.llen("runs.p0001") >= len(tasks) - len(ended) - 5
            client.go(running[0])
            client.wait_seen(running[0], "ended")
    assert client.redis.llen("runs.p0001") == 0
