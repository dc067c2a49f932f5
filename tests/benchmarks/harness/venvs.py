"""A virtual environment for each peer, with the versions that our figures were taken with, below build/bench/venvs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.benchmarks.harness.rounds import say

BUILD = Path(__file__).resolve().parents[3] / "build" / "bench"

#: saq wants redis-py below 8, so none of them share one.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "celery": ("celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0", "hiredis==3.5.0"),
    "dramatiq": ("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0"),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0"),
    "saq": ("saq[redis,hiredis]==0.26.4", "redis==7.4.1", "hiredis==3.5.0", "typing_extensions", "uvloop==0.23.0"),
    "raw": ("redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0", "orjson==3.13.0"),
    "sse": (
        *("sse-starlette==3.7.0", "starlette==1.10.0", "uvicorn==0.54.0"),
        *("redis==8.1.0", "hiredis==3.5.0"),
    ),
}


@cache
def python_of(name: str) -> Path:
    """Its interpreter; makes the environment unless it stands with the same requirements. Raises RuntimeError."""
    folder = BUILD / "venvs" / name
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS[name])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making the environment of {name}: {' '.join(REQUIREMENTS[name])}")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[name]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the environment of {name} cannot be made: {done.stderr[-600:]}")
    stamp.write_text(wanted)
    return python
