"""Child processes, ended by their id whatever happens, and callers: children that are told what to do line by line."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_REPOSITORY = Path(__file__).resolve().parents[3]
_PR_SET_PDEATHSIG = 1
#: Seconds from SIGTERM to SIGKILL.
_STOP_WITHIN_S = 5.0
#: Characters of a log that an error shows.
_LAST_WORDS = 600


class ChildFailed(RuntimeError):
    """A child process ended, or did not answer in time."""


class Child:
    """A process that leads a group of its own, so that a terminal's Ctrl-C reaches its parent alone.

    It is stopped by its id, with all that it started, and does not outlive the main thread of this process.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, piped: bool = False
    ) -> None:
        pipe = subprocess.PIPE if piped else subprocess.DEVNULL
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                cwd=_REPOSITORY,
                env=dict(os.environ) | {"PYTHONPATH": str(_REPOSITORY)} | dict(environment or {}),
                stdin=pipe,
                stdout=pipe if piped else file,
                stderr=file,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # the group has its leader's id until its last member ends
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-_LAST_WORDS:]


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class Caller:
    """The other end of ``peers/driver.py``: a process that submits and waits, with nothing else on its mind."""

    def __init__(self, python: Path | str, module: str, log: Path, environment: Mapping[str, str]) -> None:
        command = [str(python), "-m", "tests.benchmarks.peers.driver", module]
        self._child = Child(command, log, environment, piped=True)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def ask(self, verb: str, *, within_s: float = 60.0, **arguments: Any) -> dict[str, Any]:
        """The answer to one request. Raises ChildFailed."""
        stdin = self._child.process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            raise ChildFailed(f"the caller has ended: {self._child.last_words()}") from error
        answer = json.loads(self._line(within_s, verb))
        if "error" in answer:
            raise ChildFailed(f"{verb}: {answer['error']}")
        return answer

    def _line(self, within_s: float, verb: str) -> bytes:
        stdout = self._child.process.stdout
        assert stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ChildFailed(f"{verb} took longer than {within_s:g} s: {self._child.last_words()}")
            data = os.read(stdout.fileno(), 65536)
            if not data:
                raise ChildFailed(f"the caller ended during {verb}: {self._child.last_words()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
