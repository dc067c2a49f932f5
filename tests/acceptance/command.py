"""The real ``runlane`` command as a process, and who of its family is still alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

_MARK = "RUNLANE_ACCEPTANCE_TEST"


class Command:
    """A way to call ``runlane`` in one environment; every process that descends from a call can be found again."""

    def __init__(self, **environment: str) -> None:
        self._mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNLANE_")}
        self._environment = inherited | environment | {_MARK: self._mark}

    def __getitem__(self, name: str) -> str:
        """A variable of its environment."""
        return self._environment[name]

    def where(self, **environment: str) -> Command:
        """The same command in a changed environment."""
        return Command(**{name: value for name, value in self._environment.items() if name != _MARK} | environment)

    def start(
        self, *arguments: str, terminal: int | None = None, output: int | None = None, errors: int | None = None
    ) -> subprocess.Popen[str]:
        """Start it on pipes, with the file descriptor of a ``terminal`` for all three streams, or with that of a file
        for all its ``output``, or for its ``errors`` alone.
        """
        written = terminal if output is None else output
        return subprocess.Popen(
            [sys.executable, "-m", "producer.cli.main", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if written is None else written,
            stderr=errors if errors is not None else subprocess.PIPE if written is None else written,
            text=True,
        )

    def __call__(
        self, *arguments: str | bytes, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "producer.cli.main", *arguments],
            env=self._environment,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )

    def living(self) -> dict[int, str]:
        """pid → command line of the processes that descend from this command's calls."""
        found: dict[int, str] = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self._mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


def wait_until(condition: Callable[[], bool], description: str, within: float = 30.0) -> None:
    """Look at ``condition`` until it holds; an AssertionError names what did not happen in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {description}"
        time.sleep(0.02)
