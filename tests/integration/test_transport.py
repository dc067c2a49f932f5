"""Queues as the transport serves them, on a real worker and a real Redis."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from runtime_core.doorbell import TAG_PATTERN, argsrepr, doorbell
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import ScopedRunId
from tests.integration.celery_worker import CeleryWorker, PlainClient, wait_until
from workers.transport import BAD_QUEUE, INGRESS_IN_HAND

QUEUE, LATE_QUEUE = "runs.p0000", "runs.p0001"


@pytest.fixture(scope="module")
def client(redis_server: EmbeddedRedis) -> Iterator[PlainClient]:
    with PlainClient(redis_server.url) as client:
        client.redis.flushall()
        yield client


@pytest.fixture(scope="module")
def worker(client: PlainClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryWorker]:
    with CeleryWorker(client, tmp_path_factory.mktemp("transport") / "transport.log", slots=20) as worker:
        yield worker


@pytest.fixture(autouse=True)
def worker_survives(worker: CeleryWorker, client: PlainClient) -> Iterator[None]:
    yield
    client.event(client.send("whoami", 0, queue=QUEUE), "task-succeeded")
    client.event(client.send("accept", queue="runs"), "task-succeeded")
    assert worker.process.poll() is None
    assert "re-establish" not in worker.text()
    wait_until(lambda: not client.redis.exists("unacked", "unacked_index"), "every submission is acknowledged")


def message(**changes: Any) -> dict[str, Any]:
    """A message of the task ``whoami``, changed."""
    text = doorbell(ScopedRunId("malformed"), queue=QUEUE, argsrepr=argsrepr("a", "s", 1))
    return json.loads(text.replace(TAG_PATTERN, '"delivery_tag": "malformed:1"')) | changes


def with_headers(**changes: Any) -> dict[str, Any]:
    return message(headers=message()["headers"] | changes)


def without_id() -> dict[str, Any]:
    headers = message()["headers"] | {"task": "whoami"}
    del headers["id"]
    return message(headers=headers)


MALFORMED = {
    "garbage bytes": b"\xff\xfe\x00garbage",
    "empty": b"",
    "not JSON": b"{'task': 1}",
    "deeply nested": b"[" * 100_000,
    "a number": b"12",
    "a list": b"[]",
    "an empty object": b"{}",
    "properties that are a list": json.dumps(message(properties=[])).encode(),
    "no delivery tag": json.dumps(message(properties={})).encode(),
    "a delivery tag that is a number": json.dumps(message(properties={"delivery_tag": 7})).encode(),
    "a body that is not base64": json.dumps(message(body="%%%")).encode(),
    "a body that is a number": json.dumps(message(body=5)).encode(),
    "a body that is not JSON": json.dumps(message(body=base64.b64encode(b"{").decode())).encode(),
    "no headers": json.dumps(message(headers=None)).encode(),
    "headers that are a list": json.dumps(message(headers=[])).encode(),
    "no task": json.dumps(with_headers(task=None)).encode(),
    "a task that is a list": json.dumps(with_headers(task=[])).encode(),
    "an unknown task": json.dumps(with_headers(task="nobody.knows")).encode(),
    "no id": json.dumps(without_id()).encode(),
    "an id that is a list": json.dumps(with_headers(task="whoami", id=["x"])).encode(),
    "a time that is none": json.dumps(with_headers(task="whoami", eta="yesterday-ish")).encode(),
    "pickle": json.dumps(with_headers(task="whoami") | {"content-type": "application/x-python-serialize"}).encode(),
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_doorbell_is_logged_and_the_worker_serves_on(
    client: PlainClient, worker: CeleryWorker, malformed: bytes
) -> None:
    logged = len(worker.text())
    client.redis.lpush(QUEUE, malformed)
    wait_until(lambda: any(f"{level}/" in worker.text()[logged:] for level in ("ERROR", "WARNING")), "a log line")
    assert client.redis.llen(QUEUE) == 0


def test_malformed_submissions_leave_the_queue_and_the_worker_serves_on(client: PlainClient) -> None:
    client.redis.lpush("runs", *MALFORMED.values())
    wait_until(lambda: client.redis.llen("runs") == 0, "they are taken")


def test_a_submission_that_is_no_message_is_set_aside(client: PlainClient, worker: CeleryWorker) -> None:
    client.redis.delete(BAD_QUEUE)
    client.redis.lpush("runs", "garbage")
    wait_until(lambda: client.redis.lrange(BAD_QUEUE, 0, -1) == ["garbage"], "it is set aside")
    assert BAD_QUEUE in worker.text()


def test_a_queue_that_joins_an_idle_consumer_delivers_at_once(client: PlainClient, worker: CeleryWorker) -> None:
    latencies: list[float] = []
    for _ in range(3):
        task = client.send("hold", queue=LATE_QUEUE)
        started = time.monotonic()
        assert worker.ask("join", queue=LATE_QUEUE, cut=True)["cut"]
        client.wait_seen(task, "started")
        latencies.append(time.monotonic() - started)
        client.go(task)
        client.event(task, "task-succeeded")
        worker.ask("leave", queue=LATE_QUEUE)
    # Without the cut it takes what is left of the BRPOP's second.
    assert min(latencies) < 0.2


def test_a_queue_that_left_is_not_consumed(client: PlainClient, worker: CeleryWorker) -> None:
    worker.ask("join", queue=LATE_QUEUE, cut=True)
    worker.ask("leave", queue=LATE_QUEUE)
    client.send("whoami", 0, queue=LATE_QUEUE)
    client.event(client.send("whoami", 0, queue=QUEUE), "task-succeeded")
    assert client.redis.llen(LATE_QUEUE) == 1
    client.redis.delete(LATE_QUEUE)


def test_submissions_are_taken_while_every_slot_is_busy(client: PlainClient) -> None:
    holding = [client.send("hold", queue=QUEUE) for _ in range(20)]
    for task in holding:
        client.wait_seen(task, "started")
    submissions = [client.send("accept", queue="runs") for _ in range(INGRESS_IN_HAND + 5)]
    for task in submissions:
        client.event(task, "task-succeeded")
    for task in holding:
        client.go(task)
        client.event(task, "task-succeeded")


def test_doorbells_come_while_submissions_wait(client: PlainClient) -> None:
    submissions = [client.send("accept", True, queue="runs") for _ in range(INGRESS_IN_HAND + 5)]
    wait_until(lambda: client.redis.hlen("unacked") == INGRESS_IN_HAND, "as many are in hand as may be")
    client.event(client.send("whoami", 0, queue=QUEUE), "task-succeeded")
    assert client.redis.llen("runs") == 5
    for task in submissions:
        client.go(task)
    for task in submissions:
        client.event(task, "task-succeeded")


def test_a_submission_with_a_priority_is_taken_too(client: PlainClient) -> None:
    stranger = Celery("stranger", broker=client.url, set_as_current=False)
    task = str(stranger.send_task("accept", queue="runs", priority=5, ignore_result=True).id)
    client.wait_seen(task, "accepted")


def test_the_poll_is_young_while_the_worker_idles(worker: CeleryWorker) -> None:
    assert worker.ask("poll_age") < 1.5


def test_everything_works_over_a_unix_socket(unix_socket_url: str, tmp_path: Path) -> None:
    with PlainClient(unix_socket_url) as client, CeleryWorker(client, tmp_path / "socket.log") as worker:
        assert worker.ask("poll_age") < 1.5
        client.event(client.send("whoami", 0, queue=QUEUE), "task-succeeded")
        client.event(client.send("accept", queue="runs"), "task-succeeded")
