"""Flower beside a fleet, started by its command: what its pages and its HTTP API say of workers, runs and queues."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from runtime_core.contracts.run import RunBudget
from runtime_core.store import keys
from tests.acceptance.command import Command
from tests.acceptance.command import wait_until as wait_until_sync
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until

_LOGIN = ("ops", "no-secret-here")
_QUEUES = [keys.INGRESS_QUEUE, *map(keys.queue, range(PARTITIONS))]


@contextmanager
def flower(log: Path, *arguments: str, **environment: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """The command on a free port: its URL and its process."""
    with log.open("w") as output:
        process = Command(**environment).start("flower", "--port", "0", *arguments, output=output.fileno())
    try:
        wait_until_sync(
            lambda: process.poll() is not None or "Visit me at" in log.read_text(), f"flower is up: {log.read_text()}"
        )
        found = re.search(r"Visit me at (http://[\d.]+:\d+)", log.read_text())
        assert found, log.read_text()
        yield found[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


async def test_flower_shows_each_run_as_one_task_and_every_queue(fleet: Fleet, redis: Redis, tmp_path: Path) -> None:
    # Given a fleet and its monitor
    await fleet.start(2, RUNLANE_DRAIN_GRACE_S="0")
    await fleet.ready()
    log = tmp_path / "flower.log"
    environment = {"RUNLANE_REDIS_URL": fleet.redis_url, "FLOWER_BASIC_AUTH": ":".join(_LOGIN)}
    with flower(log, **environment) as (url, process):
        async with httpx.AsyncClient(base_url=url, auth=_LOGIN) as http:
            tasks = Tasks(http)
            await wait_until(tasks.knows_workers, "Flower hears both workers")

            # When runs end in every way, one of them after it was handed over
            submit = fleet.client.submit
            completed = await submit(request("echo hello", "s1"))
            failed = await submit(request("raise ValueError", "s2"))
            late = await submit(request("wait 30", "s3", budget=RunBudget(max_duration_ms=100)))
            revoked = await submit(request("wait 60", "s4"))
            cancelled = await submit(request("wait 60", "s5"))
            never_started = await submit(request("echo never", "s5"))
            moved = await submit(request("wait 2", "s6"))
            for run in (revoked, cancelled, moved):
                await wait_until(lambda run=run: tasks.state(run.run_id, "STARTED"), "it executes")
            left = (await tasks.of(moved.run_id))["worker"]
            await never_started.cancel()
            await cancelled.cancel()
            answer = await http.post(f"/api/task/revoke/{revoked.run_id}", params={"terminate": "true"})
            assert answer.status_code == 200, answer.text
            expected = {
                completed: "SUCCESS",
                failed: "FAILURE",
                late: "FAILURE",
                revoked: "REVOKED",
                cancelled: "REVOKED",
            }
            for run, state in expected.items():
                await wait_until(lambda run=run, state=state: tasks.state(run.run_id, state), f"{run} is {state}")
            (leaving,) = (worker for worker in fleet.workers if str(left).startswith(worker.name))
            leaving.terminate()
            await wait_until(lambda: tasks.state(moved.run_id, "SUCCESS"), "the run that moved succeeds")

            # Then each is one task with what happened to it
            done = await tasks.of(completed.run_id)
            assert done["name"] == "runlane.execute"
            assert done["args"] == "({'agent_id': 'journal', 'session_id': 's1', 'input_length': 10},)"
            assert done["received"] <= done["started"] <= done["succeeded"]
            assert 0 < done["runtime"] < 5
            assert (await tasks.of(failed.run_id))[
                "exception"
            ] == "RunFailed('pattern.error', 'ValueError: ValueError')"
            assert "took longer than its 100 ms" in (await tasks.of(late.run_id))["exception"]
            assert (await tasks.of(moved.run_id))["worker"] != left
            assert (await revoked.result(timeout=5)).stop_reason == "cancelled"
            assert "hello" not in (await http.get("/api/tasks")).text

            # And the one that never started does not stand there as if it had
            assert (await http.get(f"/api/task/info/{never_started.run_id}")).status_code == 404

            # And there is the length of every queue, whoever consumes it
            await redis.rpush(keys.BAD_INGRESS, "not a queue")
            lengths = (await http.get("/api/queues/length")).json()["active_queues"]
            assert [queue["name"] for queue in lengths] == _QUEUES
            assert all(queue["messages"] == 0 for queue in lengths)

            # And its buttons answer what is true
            (worker,) = {str(worker["hostname"]) for worker in await tasks.workers() if worker["status"]}
            grown = await http.post(f"/api/worker/pool/grow/{worker}", params={"n": 2})
            assert grown.status_code == 200, grown.text
            limited = await http.post(
                "/api/task/rate-limit/runlane.execute", params={"workername": worker, "ratelimit": "1/m"}
            )
            assert "runs have no rate limit" in limited.text
            removed = await http.post(f"/api/worker/queue/cancel-consumer/{worker}", params={"queue": _QUEUES[1]})
            assert removed.status_code == 403
            assert "queues of its partitions" in removed.text
            for page in ("workers", "tasks", "broker", f"worker/{worker}", f"task/{failed.run_id}"):
                assert (await http.get(f"/{page}")).status_code == 200, page
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert _LOGIN[1] not in command_line
        assert "redis://" not in command_line


class Tasks:
    """What Flower's HTTP API says of runs and workers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def of(self, run: str) -> dict[str, Any]:
        """Empty while Flower does not know it."""
        answer = await self._http.get(f"/api/task/info/{run}")
        return answer.json() if answer.status_code == 200 else {}

    async def state(self, run: str, state: str) -> bool:
        return (await self.of(run)).get("state") == state

    async def workers(self) -> list[dict[str, Any]]:
        return (await self._http.get("/workers", params={"json": "true"})).json()["data"]

    async def knows_workers(self) -> bool:
        await self._http.get("/api/workers", params={"refresh": "true"})
        return len(await self.workers()) == 2


def test_without_a_login_it_shows_and_changes_nothing_and_finds_the_queues_of_a_fleet_that_is_gone(
    redis_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "flower.log"
    environment = {"RUNLANE_REDIS_URL": redis_url, "RUNLANE_PARTITIONS": "8", "CELERY_BROKER_URL": "redis://nowhere"}
    with flower(log, **environment) as (url, process), httpx.Client(base_url=url) as http:
        page = http.get("/broker")
        refused = http.get("/api/queues/length")
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text()

    assert all(f">{name}<" in page.text for name in _QUEUES), page.text
    assert refused.status_code == 401
    assert "--read_only=true" in command_line, "else its pages have buttons"
    assert url.startswith("http://127.0.0.1:")


def test_a_redis_that_is_not_there_is_named_without_its_password() -> None:
    ended = Command(RUNLANE_REDIS_URL="redis://:sekret@127.0.0.1:1/0")("flower", "--port", "0")

    assert ended.returncode == 2
    assert "redis://:***@127.0.0.1:1/0" in ended.stderr
    assert "sekret" not in ended.stderr
