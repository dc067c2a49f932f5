"""How commands of ``runlane`` end."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    #: The command line is wrong, or a Python package is not installed.
    USAGE = 1
    #: The configuration or the input is wrong; an unreachable Redis is a wrong address.
    INVALID = 2
    #: A run ended otherwise than completed, or a worker died.
    FAILED = 3
    #: The session or its partition has as many unfinished runs as it may. As EX_TEMPFAIL of sysexits(3).
    FULL = 75
    #: ``--timeout`` passed; the run goes on. As timeout(1).
    TIME_UP = 124
    #: Ctrl-C. As the shell has it: 128 + SIGINT.
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command says how it ended; ``message`` goes to stderr."""

    def __init__(self, code: ExitCode, message: str = "") -> None:
        super().__init__(message)
        self.code = code
