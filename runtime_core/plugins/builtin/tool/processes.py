"""Programs that tools start: without a shell, in a process group of their own that is ended as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds between SIGTERM and SIGKILL.
_GRACE_S = 2.0
#: Seconds for the output of a program that has ended: one that left its group may hold the pipe open for ever.
_LAST_OUTPUT_S = 0.5
_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True)
class ProcessOutcome:
    """``exit_code`` is negative for a signal. The first bytes of each output; ``truncated`` if one had more."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool


async def run_process(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_s: float, max_bytes: int
) -> ProcessOutcome:
    """Execute ``command`` without input and wait for its end.

    Its process group is ended after ``timeout_s`` seconds, when the caller is cancelled, and when the program itself
    has ended: SIGTERM first while that still runs, then SIGKILL. A program that moves to a group of its own escapes.
    Raises OSError if it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,
    )
    outputs = [_Output(max_bytes), _Output(max_bytes)]
    reading = [
        asyncio.create_task(output.read_from(stream))
        for output, stream in zip(outputs, (process.stdout, process.stderr), strict=True)
        if stream is not None
    ]
    timed_out = False
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            timed_out = True
        await _end(process)
        await asyncio.wait(reading, timeout=_LAST_OUTPUT_S)
    finally:
        _signal(process, signal.SIGKILL)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        exit_code = await process.wait()
    return ProcessOutcome(
        exit_code=exit_code,
        stdout=bytes(outputs[0].kept),
        stderr=bytes(outputs[1].kept),
        timed_out=timed_out,
        truncated=any(output.cut for output in outputs),
    )


class _Output:
    """The first bytes of a stream; the rest is read and dropped, so that the program does not block on its pipe."""

    def __init__(self, max_bytes: int) -> None:
        self.kept = bytearray()
        self.cut = False
        self._max_bytes = max_bytes

    async def read_from(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(_CHUNK):
            room = self._max_bytes - len(self.kept)
            self.kept += chunk[:room]
            self.cut = self.cut or len(chunk) > room


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """To the whole group, whose id is that of the process: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
