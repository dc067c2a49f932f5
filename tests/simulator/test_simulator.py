"""The simulator, as far as CI has time for it: every directed history, and random ones for a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator

import pytest
import redis

from tests.simulator.__main__ import play_scene, server
from tests.simulator.directed import SCENES
from tests.simulator.play import Outcome

#: Minutes of wall time on two processes, so two minutes of histories.
_MINUTES = "1"


@pytest.fixture(scope="module")
def client() -> Generator[redis.Redis]:
    with server() as client:
        yield client


@pytest.mark.parametrize("scene", SCENES)
def test_directed_history(scene: str, client: redis.Redis) -> None:
    report = play_scene(client, scene)

    assert report.outcome is Outcome.HELD, "\n".join([*report.trace, report.story])


@pytest.mark.timeout(300)
def test_random_histories_hold() -> None:
    # The same seeds each time, so that a change fails for what it changes; `make simulate` looks at others every day.
    first = os.environ.get("RUNLANE_SIMULATOR_SEED", "0")
    command = [sys.executable, "-m", "tests.simulator", "--from", first, "--minutes", _MINUTES, "--processes", "2"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    sys.stdout.write(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-4_000:]}"
