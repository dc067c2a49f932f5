"""A program of an allow-list, with everything about its execution in the parameters."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolAuthError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.commands import Command, CommandConfig, execute, text, words_of
from runtime_core.plugins.builtin.tool.environment import steers_programs


class ShellExecConfig(CommandConfig):
    #: Milliseconds for a call that names no time, and the most that one may name.
    default_timeout_ms: PositiveInt = 60_000


class ShellExecParameters(Parameters):
    command: Command = Field(
        min_length=1, max_length=100_000, description="Program and arguments, as a list of words or as one text"
    )
    cwd: str | None = Field(None, max_length=4096, description="Directory to start in, below the tool's own")
    timeout_ms: PositiveInt | None = Field(None, description="Milliseconds after which the program is ended")
    env: dict[str, str] | None = Field(None, description="Environment variables for this program")


class ShellExecTool(BuiltinTool[ShellExecParameters]):
    """``{"command": ["ls", "-l"]}`` → ``{exit_code, stdout, stderr, timed_out, truncated}``. See commands.py for what
    the allow-list does not protect from.
    """

    name = "shell_exec"
    description = "Execute one of the allowed programs with arguments, without a shell."
    Parameters = ShellExecParameters
    Config = ShellExecConfig
    cfg: ShellExecConfig
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            side_effects="processes",
            reads_files=True,
            writes_files=True,
            default_timeout_ms=limit_beyond(self.cfg.default_timeout_ms / 1000),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        for name in given.env or {}:
            if steers_programs(name):
                raise ToolAuthError(
                    f"the environment variable {name!r} may not be set for a program",
                    hint="it could make another program of it; leave it out",
                    tool_id=self.name,
                )
        limit_ms = self.cfg.default_timeout_ms
        outcome = await execute(
            words_of(given.command, tool=self.name),
            config=self.cfg,
            context=context,
            timeout_s=min(given.timeout_ms or limit_ms, limit_ms) / 1000,
            tool=self.name,
            cwd=given.cwd,
            env=given.env,
        )
        return {
            "exit_code": outcome.exit_code,
            "stdout": text(outcome.stdout),
            "stderr": text(outcome.stderr),
            "timed_out": outcome.timed_out,
            "truncated": outcome.truncated,
        }
