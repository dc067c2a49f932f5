"""How a worker with running tasks ends: warm, cold, soft, killed. And how it does not: when Redis goes away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_core.embedded import EmbeddedRedis
from tests.integration.celery_worker import CeleryWorker, PlainClient, wait_until


@pytest.fixture
def client(redis_url: str) -> Iterator[PlainClient]:
    with PlainClient(redis_url) as client:
        yield client


def unacknowledged(client: PlainClient) -> object:
    return client.redis.hlen("unacked")


def test_a_warm_shutdown_waits_for_what_runs(client: PlainClient, tmp_path: Path) -> None:
    with CeleryWorker(client, tmp_path / "warm.log") as worker:
        task, submission = client.send("hold"), client.send("accept", True, queue="runs")
        client.wait_seen(task, "started")
        client.wait_seen(submission, "started")
        worker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in worker.text(), "the worker shuts down")
        client.go(task)
        client.go(submission)
        assert worker.process.wait(5) == 0
    assert client.seen(task) == ["started", "ended"]
    assert client.seen(submission) == ["started", "accepted"]
    client.event(task, "task-succeeded")
    assert unacknowledged(client) == 0
    assert client.redis.llen("runs") == 0


def test_a_cold_shutdown_cancels_and_lets_coroutines_end(client: PlainClient, tmp_path: Path) -> None:
    with CeleryWorker(client, tmp_path / "cold.log") as worker:
        task = client.send("hold")
        client.wait_seen(task, "started")
        worker.stop(signal.SIGQUIT, within=5)
    assert client.seen(task) == ["started", "cancelled by terminate"]
    assert {"task-succeeded", "task-failed", "task-retried"}.isdisjoint(client.events_of(task))


def test_a_soft_shutdown_gives_time_and_then_cancels(client: PlainClient, tmp_path: Path) -> None:
    with CeleryWorker(client, tmp_path / "soft.log", POOL_APP_SOFT_SHUTDOWN="1") as worker:
        long, short = client.send("hold"), client.send("hold")
        client.wait_seen(long, "started")
        client.wait_seen(short, "started")
        worker.process.send_signal(signal.SIGQUIT)
        wait_until(lambda: "Soft Shutdown" in worker.text(), "the worker shuts down softly")
        client.go(short)
        client.wait_seen(short, "ended")
        worker.process.wait(5)
    assert client.seen(long) == ["started", "cancelled by terminate"]
    client.event(short, "task-succeeded")


def test_a_submission_outlives_the_kill_of_its_worker(client: PlainClient, tmp_path: Path) -> None:
    # The kill may come while the worker restores: its lock then stands for `unacked_mutex_expire`, in seconds.
    transport = '{"visibility_timeout": 1, "unacked_restore_interval": 0.3, "unacked_mutex_expire": 1}'
    with CeleryWorker(client, tmp_path / "killed.log", POOL_APP_TRANSPORT=transport) as worker:
        task = client.send("accept", True, queue="runs")
        client.wait_seen(task, "started")
        assert unacknowledged(client) == 1
        worker.stop(signal.SIGKILL)
    client.go(task)
    with CeleryWorker(client, tmp_path / "next.log", POOL_APP_TRANSPORT=transport):
        client.wait_seen(task, "accepted")
        wait_until(lambda: unacknowledged(client) == 0, "the submission is acknowledged")


def test_a_submission_is_restored_by_a_worker_that_ends_cold(client: PlainClient, tmp_path: Path) -> None:
    with CeleryWorker(client, tmp_path / "cold.log") as worker:
        task = client.send("accept", True, queue="runs")
        client.wait_seen(task, "started")
        worker.stop(signal.SIGQUIT, within=5)
    assert client.redis.llen("runs") == 1
    assert unacknowledged(client) == 0


def test_a_worker_serves_on_after_a_restart_of_redis(tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        client = PlainClient(server.url)
        with CeleryWorker(client, tmp_path / "outage.log") as worker:
            running = client.send("hold")
            client.wait_seen(running, "started")
            server.stop()
            wait_until(lambda: "Cannot connect" in worker.text(), "the worker notices")
            server.start()
            for queue in ("runs.p0000", "runs"):
                client.wait_seen(client.send("accept", queue=queue), "accepted")
            client.go(running)  # if its own connection came back in time, it waits still
            assert worker.stop(signal.SIGTERM) == 0
