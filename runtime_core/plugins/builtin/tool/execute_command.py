"""A program of an allow-list, in its short form."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import Field, PositiveFloat

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolTimeoutError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.commands import Command, CommandConfig, execute, text, words_of


class ExecuteCommandConfig(CommandConfig):
    #: Seconds for a call that names no time, and the most that one may name.
    timeout: PositiveFloat = 30.0


class ExecuteCommandParameters(Parameters):
    command: Command = Field(
        min_length=1, max_length=100_000, description="Program and arguments, as one text or as a list of words"
    )
    timeout: PositiveFloat | None = Field(None, description="Seconds after which the program is ended")


class ExecuteCommandTool(BuiltinTool[ExecuteCommandParameters]):
    """``{"command": "ls -l"}`` → ``{command, stdout, stderr, returncode, success, truncated}``. See commands.py for
    what the allow-list does not protect from.
    """

    name = "execute_command"
    description = "Execute one of the allowed programs with arguments. There is no shell: no pipes, no redirection."
    Parameters = ExecuteCommandParameters
    Config = ExecuteCommandConfig
    cfg: ExecuteCommandConfig
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            side_effects="processes",
            reads_files=True,
            writes_files=True,
            default_timeout_ms=limit_beyond(self.cfg.timeout),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        words = words_of(given.command, tool=self.name)
        timeout_s = min(given.timeout or self.cfg.timeout, self.cfg.timeout)
        outcome = await execute(words, config=self.cfg, context=context, timeout_s=timeout_s, tool=self.name)
        if outcome.timed_out:
            raise ToolTimeoutError(
                f"{words[0]!r} took longer than {timeout_s:g} s and was ended",
                hint="give it less to do, or more time by timeout",
                tool_id=self.name,
            )
        return {
            "command": given.command if isinstance(given.command, str) else shlex.join(given.command),
            "stdout": text(outcome.stdout),
            "stderr": text(outcome.stderr),
            "returncode": outcome.exit_code,
            "success": outcome.exit_code == 0,
            "truncated": outcome.truncated,
        }
