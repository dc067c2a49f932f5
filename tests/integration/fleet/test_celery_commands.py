"""Celery's own command next to a running fleet: what it prints is right and readable, and holds no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import IO

import pytest

from producer.fleet import Fleet as Operator
from producer.flower_app import ALL_QUEUES, make_app
from runtime_core.config.settings import Settings
from tests.integration.fleet.conftest import Fleet, request, wait_until


def celery(fleet: Fleet, *arguments: str) -> str:
    """What the command prints on both streams; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.app", *arguments],
        env=environment(fleet),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def environment(fleet: Fleet) -> dict[str, str]:
    """With another broker in it, which Celery by itself would ask."""
    return os.environ | {"RUNLANE_REDIS_URL": fleet.redis_url, "CELERY_BROKER_URL": "redis://:hunter2@127.0.0.1:9/0"}


async def test_celerys_own_commands_behave(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.start(2, CELERY_BROKER_URL="redis://127.0.0.1:9/0")
    await fleet.ready()
    host = os.uname().nodename
    both = ("-d", f"w0@{host},w1@{host}", "-t", "10")  # it is answered when both have
    with tempfile.TemporaryFile("w+") as printed:
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "events", "--dump"]
        unbuffered = environment(fleet) | {"PYTHONUNBUFFERED": "1"}
        with ExitStack() as stack:
            dump = stack.enter_context(subprocess.Popen(command, env=unbuffered, stdout=printed, stderr=printed))
            stack.callback(dump.kill)
            await wait_until(lambda: "heartbeat:" in _text(printed), "the events are being dumped")
            waiting = await fleet.client.submit(request("wait 60", "s1"))
            await wait_until(lambda: len(fleet.journal()) == 1, "the run executes")

            status = celery(fleet, "status", *both)
            assert "2 nodes online" in status
            active = celery(fleet, "inspect", "active", "--json", *both)
            (task,) = (task for tasks in json.loads(_last_line(active)).values() for task in tasks)
            assert (task["id"], task["name"]) == (waiting.run_id, "runlane.execute")
            told = celery(fleet, "inspect", "runlane_status", "--json", *both)
            executing = [run["run"] for worker in json.loads(_last_line(told)).values() for run in worker["executing"]]
            assert executing == [waiting.run_id]
            queues = celery(fleet, "inspect", "active_queues", "--json", *both)
            consumed = [queue["name"] for worker in json.loads(_last_line(queues)).values() for queue in worker]
            assert sorted(set(consumed)) == ["runs", *(f"runs.p{number:04}" for number in range(8))]
            assert "hunter2" not in celery(fleet, "inspect", "conf", *both)

            assert "cancelling" in celery(fleet, "control", "revoke", *both, waiting.run_id)
            assert (await waiting.result(timeout=10)).stop_reason == "cancelled"
            await wait_until(lambda: "task revoked:" in _text(printed), "its end is dumped")
        events = _text(printed)
    for event in ("task received:", "task started:", "task revoked:"):
        assert any(event in line and waiting.run_id in line for line in events.splitlines()), events
    assert "'input_length': 7" in events

    with make_app(Settings(redis_url=fleet.redis_url, partitions=16)) as monitor:
        monitor.send_task("no.such.task", queue="runs", args=["hunter2"])
        consumed = monitor.control.inspect([f"w0@{host}", f"w1@{host}"], timeout=10).active_queues()
        shown = monitor.control.inspect(timeout=2).active_queues()
        refused = monitor.control.add_consumer("x", destination=[f"w0@{host}"], reply=True, timeout=10)
    assert len(consumed) == 2
    assert len(shown.get(ALL_QUEUES, ())) == 17, "those that nobody consumes, too"
    assert "queues of its partitions" in str(refused)
    await wait_until(lambda: "dropped the task 'no.such.task'" in fleet.logs(), "a worker says what it dropped")
    assert "hunter2" not in fleet.logs()
    assert "Traceback" not in fleet.logs()

    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:9/0")
    started = time.monotonic()
    async with Operator(fleet.redis_url) as operator:
        assert (await operator.workers()).ok
    assert time.monotonic() - started < 10, "it did not ask the other broker"

    assert "draining" in celery(fleet, "control", "runlane_drain", "-d", f"w1@{host}", "-t", "10")
    await wait_until(lambda: fleet.workers[1].exit_code == 0, "the drained worker has ended")


def _text(file: IO[str]) -> str:
    return os.pread(file.fileno(), 10_000_000, 0).decode()


def _last_line(printed: str) -> str:
    return printed.strip().splitlines()[-1]
