"""Start workers of tests.integration.pool_app as processes, watch what they do, wait for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
from celery import Celery

from runtime_core.broker import broker_settings

T = TypeVar("T")

WAIT_S = 15.0


def wait_until(condition: Callable[[], T], description: str, *, within: float = WAIT_S) -> T:
    """The first true value of ``condition``; AssertionError that names ``description`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {description}"
        threading.Event().wait(0.01)


class PlainClient:
    """A Celery client that knows nothing of the workers but their queues, and hears their events."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: redis.Redis = redis.Redis.from_url(url, decode_responses=True)
        self.app = Celery("client", set_as_current=False)
        self.app.conf.update(broker_settings(url), task_ignore_result=True)
        self.events: list[dict[str, Any]] = []
        self._listening = threading.Event()
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._listener.start()
        assert self._listening.wait(5), "the client hears no events"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.join(5)
        self.redis.close()

    def send(self, task: str, *args: Any, queue: str = "runs.p0000", **options: Any) -> str:
        return str(self.app.send_task(task, args=args, queue=queue, ignore_result=True, **options).id)

    def go(self, task_id: str) -> None:
        self.redis.rpush(f"go:{task_id}", "go")

    def seen(self, task_id: str) -> list[Any]:
        values: Any = self.redis.lrange(f"seen:{task_id}", 0, -1)
        return [json.loads(value) for value in values]

    def events_of(self, task_id: str) -> list[str]:
        return [event["type"] for event in list(self.events) if event.get("uuid") == task_id]

    def event(self, task_id: str, kind: str) -> dict[str, Any]:
        return wait_until(
            lambda: [e for e in list(self.events) if e.get("uuid") == task_id and e["type"] == kind],
            f"{kind} of {task_id}",
        )[0]

    def wait_seen(self, task_id: str, value: Any) -> None:
        wait_until(lambda: value in self.seen(task_id), f"{task_id} tells {value!r}")

    def _listen(self) -> None:
        with self.app.connection_for_read() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": self.events.append})
            with receiver.consumer_context() as (own_connection, _, _):
                self._listening.set()
                while not self._stop.is_set():
                    try:
                        own_connection.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue


class CeleryWorker:
    """One worker process; a context manager that ends it by SIGKILL unless it ended before."""

    def __init__(self, client: PlainClient, log: Path, *, queues: str = "runs.p0000,runs", slots: int = 50, **env: str):
        self.client = client
        self.name = f"{log.stem}@test"
        self.log = log
        command = [sys.executable, "-m", "celery", "-A", "tests.integration.pool_app", "worker", "-n", self.name]
        options = ["-c", str(slots), "-Q", queues, "-l", "INFO", "--without-mingle", "--without-gossip"]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*command, *options],
                env=os.environ | {"POOL_APP_REDIS_URL": client.url, "POOL_APP_CONNECTION_NAME": self.name} | env,
                cwd=Path(__file__).parents[2],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        wait_until(lambda: "ready." in self.text() or self.process.poll() is not None, f"{self.name} is ready")
        assert self.process.poll() is None, self.text()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, how: signal.Signals, *, within: float = WAIT_S) -> int:
        """Send a signal, wait for the end, return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(within)

    def connections(self) -> set[str]:
        """Redis's ids of the connections of its transport."""
        listed: Any = self.client.redis.client_list()
        return {item["id"] for item in listed if item["name"] == self.name}

    def ask(self, command: str, **arguments: Any) -> Any:
        """The reply to a control command."""
        replies: Any = self.client.app.control.broadcast(
            command, arguments=arguments, destination=[self.name], limit=1, reply=True, timeout=5
        )
        assert replies, f"{self.name} did not answer {command}: {self.text()[-2000:]}"
        return replies[0][self.name]
