"""Commands that a model chooses: one program of an allow-list with arguments, started without a shell.

An allow-list says which programs are started, not what they do: ``python``, ``bash``, ``find``, ``git``, ``env`` or
``ssh`` start others, and every program may read and write what the worker's user may. List programs that can do no
more than the agent is meant to; contain the rest with the operating system (a user, a container, seccomp).
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from runtime_core.errors import PermanentToolError, ToolAuthError, ToolValidationError
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles
from runtime_core.plugins.builtin.tool.environment import session_environment
from runtime_core.plugins.builtin.tool.processes import ProcessOutcome, run_process
from runtime_core.suggestions import did_you_mean

#: What a program gets of the worker's environment; the rest may hold secrets.
_ENVIRONMENT = ("PATH", "HOME", "LANG")
_SHELL_WORDS = frozenset(["|", "||", "&", "&&", ";", ">", ">>", "<", "<<", "2>", "2>&1", "&>"])

#: A command as models write it: one text, or a list of words.
Command = str | list[str]


class CommandConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: Names of the programs that may be started, without paths; none if unset.
    command_allowlist: list[str] | None = None
    #: Names of environment variables of the worker that programs get beside PATH, HOME and LANG.
    env_passthrough: list[str] = Field(default_factory=list[str])
    #: The directory that programs start in, and the only one; the worker's working directory if unset.
    cwd: Path | None = None
    #: Bytes of each output that are returned at most.
    capture_bytes: PositiveInt = 1_048_576


def words_of(command: Command, *, tool: str) -> list[str]:
    """The program and its arguments. Raises ToolValidationError."""
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ToolValidationError(
            f"the command cannot be split into words: {error}", hint="give it as a list of words", tool_id=tool
        ) from error
    if not words or not words[0]:
        raise ToolValidationError("the command is empty", hint="name a program", tool_id=tool)
    if any("\0" in word for word in words):
        raise ToolValidationError("the command contains a NUL character", hint="remove it", tool_id=tool)
    shell_words = _SHELL_WORDS.intersection(words) if isinstance(command, str) else ()
    if shell_words:
        raise ToolValidationError(
            f"there is no shell that understands {', '.join(map(repr, sorted(shell_words)))}",
            hint="call the tool once for each program; to pass it as an argument, give the command as a list",
            tool_id=tool,
        )
    return words


async def execute(
    words: list[str],
    *,
    config: CommandConfig,
    context: Any,
    timeout_s: float,
    tool: str,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> ProcessOutcome:
    """Execute a command that the config allows. Its failing is an outcome; that it cannot be executed is raised.

    ``cwd`` is a directory below that of the config; ``env`` comes over the session's own variables.
    """
    program = words[0]
    _check_allowed(program, config.command_allowlist or [], tool)
    inherited = [*_ENVIRONMENT, *config.env_passthrough]
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    environment |= session_environment(context) | (env or {})
    path = shutil.which(program, path=environment.get("PATH", os.defpath))
    if path is None:
        raise PermanentToolError(
            f"the program {program!r} is not installed", hint="install it where the worker runs", tool_id=tool
        )
    directory = ConfinedFiles(config.cwd or Path.cwd(), tool=tool).directory(cwd or ".")
    try:
        return await run_process(
            [path, *words[1:]],
            cwd=directory,
            environment=environment,
            timeout_s=timeout_s,
            max_bytes=config.capture_bytes,
        )
    except (OSError, ValueError) as error:  # ValueError: a variable with = in its name, a NUL in its value
        problem = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise PermanentToolError(
            f"the program {program!r} could not be started: {problem}",
            hint="use fewer and shorter arguments, or another program",
            tool_id=tool,
        ) from error


def text(output: bytes) -> str:
    return output.decode(errors="replace")


def _check_allowed(program: str, allowed: list[str], tool: str) -> None:
    if program in allowed and os.sep not in program:
        return
    if not allowed:
        hint = f"no program is: list some in the config of this tool, {tool}: command_allowlist: [{program}]"
    elif os.sep in program:
        hint = f"name a program without its path: {', '.join(allowed)}"
    else:
        hint = f"{did_you_mean(program, allowed)}Allowed: {', '.join(allowed)}"
    raise ToolAuthError(f"the program {program!r} is not allowed", hint=hint, tool_id=tool)
