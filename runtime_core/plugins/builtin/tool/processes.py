"""Programs that tools start: without a shell, in a process group of their own that is ended as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
    async with _Output(max_bytes) as stdout, _Output(max_bytes) as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout.write_end,
            stderr=stderr.write_end,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
        )
        timed_out = False
        try:
            reading = [asyncio.create_task(output.read()) for output in (stdout, stderr)]
            try:
                async with asyncio.timeout(timeout_s):
                    await process.wait()
            except TimeoutError:
                timed_out = True
            await _end(process)
            await asyncio.wait(reading, timeout=_LAST_OUTPUT_S)
        finally:
            _signal(process, signal.SIGKILL)
            exit_code = await process.wait()
    return ProcessOutcome(
        exit_code=exit_code,
        stdout=bytes(stdout.kept),
        stderr=bytes(stderr.kept),
        timed_out=timed_out,
        truncated=stdout.cut or stderr.cut,
    )


class _Output:
    """The first bytes of a program's output; the rest is read and dropped, so that it does not block on its pipe.

    With a pipe of its own: asyncio's would have ``Process.wait`` wait for everyone who holds it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.kept = bytearray()
        self.cut = False
        self._max_bytes = max_bytes

    async def __aenter__(self) -> Self:
        read_end, self.write_end = os.pipe()
        self._stream = asyncio.StreamReader()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._stream), os.fdopen(read_end, "rb", buffering=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_write_end()
        self._transport.close()

    async def read(self) -> None:
        """Until the program, and whoever else holds its pipe, has closed it."""
        self._close_write_end()
        while chunk := await self._stream.read(_CHUNK):
            room = self._max_bytes - len(self.kept)
            self.kept += chunk[:room]
            self.cut = self.cut or len(chunk) > room

    def _close_write_end(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


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
