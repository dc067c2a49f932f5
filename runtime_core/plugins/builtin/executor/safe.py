"""Tool executor ``safe``: every call has a time limit; commands are allowed by name."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic import BaseModel, PositiveInt

from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest
from runtime_core.plugins.builtin.executor.calling import DirectToolExecutor
from runtime_core.plugins.typed_config import TypedConfig

#: The tools that start programs, by the names that they have themselves; both take the program as the first word of
#: ``command``.
_COMMAND_TOOLS = frozenset({"shell_exec", "execute_command"})


class SafeToolExecutor(TypedConfig, DirectToolExecutor):
    """``command_allowlist`` is a second wall around tools that start programs, whatever they allow themselves."""

    class Config(BaseModel):
        #: Milliseconds for tools that do not say how long they may take.
        default_timeout_ms: PositiveInt = 30_000
        #: Whether a tool that streams may; else only its result is passed on.
        allow_stream_passthrough: bool = True
        #: Names of programs; None leaves it to the tools.
        command_allowlist: list[str] | None = None

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        TypedConfig.__init__(self, config)

    def timeout_ms(self, request: ToolExecutionRequest) -> int | None:
        return request.execution_spec.default_timeout_ms or self.cfg.default_timeout_ms

    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision:
        allowed: list[str] | None = self.cfg.command_allowlist
        # An agent may call the tool by an id of its own.
        if allowed is None or not _COMMAND_TOOLS & {request.tool_id, getattr(request.tool, "name", "")}:
            return PolicyDecision(allowed=True)
        program = _program(request.params.get("command"))
        if program is None:
            return PolicyDecision(allowed=False, reason="there is no command, or it cannot be split into words")
        if os.sep in program:
            return PolicyDecision(allowed=False, reason=f"{program!r} is a path; name the program alone")
        if program not in allowed:
            return PolicyDecision(allowed=False, reason=f"the program {program!r} is not among {allowed}")
        return PolicyDecision(allowed=True)

    async def execute_stream(self, request: ToolExecutionRequest) -> AsyncGenerator[Any]:
        async for part in super().execute_stream(request):
            if self.cfg.allow_stream_passthrough or (isinstance(part, dict) and part.get("type") == "result"):
                yield part


def _program(command: Any) -> str | None:
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError:
            return None
    words = [str(word) for word in command] if isinstance(command, list) else []
    return words[0] if words else None
