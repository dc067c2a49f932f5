"""``runlane demo``: ends by itself, leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.acceptance.command import Command, wait_until


def test_the_demo_shows_runs_and_a_table_and_leaves_nothing_running() -> None:
    command = Command()
    began = time.monotonic()
    ended = command("demo")
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - began < 30
    for session in [f"session-{number}" for number in range(1, 7)]:
        assert f"{session} #1 run.queued" in ended.stdout
        assert f"│ {session}" in ended.stdout
    assert "tool.finished" in ended.stdout
    assert "│ files" in ended.stdout
    assert command.living() == {}


@pytest.mark.parametrize("moment", ["starting 2 workers", "ready: ", "run.started"])
def test_ctrl_c_ends_the_demo_and_all_its_processes(moment: str) -> None:
    command = Command()
    demo = command.start("demo", "--sessions", "40", "--runs", "20")
    assert demo.stdout is not None
    for line in demo.stdout:
        if moment in line:
            break
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130, errors
    assert "Traceback" not in errors
    assert command.living() == {}


def test_a_killed_demo_takes_its_processes_along(tmp_path: Path) -> None:
    command = Command(TMPDIR=str(tmp_path))
    demo = command.start("demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "ready: " in line:
            break
    demo.kill()
    demo.communicate()
    wait_until(lambda: not command.living(), "workers and Redis are gone")


def test_a_demo_whose_worker_dies_shows_its_last_words() -> None:
    command = Command()
    demo = command.start("demo", "--sessions", "40", "--runs", "50")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "ready: " in line:
            break
    (worker,) = [pid for pid, words in command.living().items() if "w1@" in words]
    os.kill(worker, signal.SIGKILL)
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 3
    assert "worker w1 ended with code -9" in errors
    assert "  | " in errors
    assert "Traceback" not in errors
    assert command.living() == {}


def test_a_wrong_setting_is_named_before_anything_starts() -> None:
    ended = Command(RUNLANE_SOFT_TIME_LIMIT_S="soon")("demo")
    assert ended.returncode == 2
    assert "RUNLANE_SOFT_TIME_LIMIT_S is 'soon'" in ended.stderr
