"""The journal: what executed where and when, written by the runs' plugins into a file that no part of Runlane touches.

One JSON object a line, appended with O_APPEND, so that lines of several processes do not mix and a SIGKILL loses none.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

#: Environment variable with the journal's path.
JOURNAL = "CHAOS_JOURNAL"


class What(StrEnum):
    START = "start"
    #: A side effect: a tool call that had passed its guard.
    EFFECT = "effect"
    #: The code returned.
    END = "end"
    #: The code was cancelled, or stopped by an error.
    CUT = "cut"


class Line(BaseModel):
    model_config = ConfigDict(frozen=True)

    what: What
    run: str
    session: str
    attempt: int
    pid: int
    #: CLOCK_BOOTTIME, seconds: the same clock in all processes of a machine.
    at: float
    #: Of a durable run: which of its steps took this effect.
    step: int | None = None


def write_line(line: Line) -> None:
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.model_dump_json().encode() + b"\n")
    finally:
        os.close(descriptor)


def read_journal(path: Path) -> list[Line]:
    return [Line.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []
