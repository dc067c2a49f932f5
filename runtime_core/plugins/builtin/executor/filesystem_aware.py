"""Tool executor ``filesystem_aware``: which tools an agent may call, and below which directories."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest
from runtime_core.plugins.builtin.executor.calling import DirectToolExecutor
from runtime_core.plugins.typed_config import TypedConfig

#: Parameters that hold a path.
_PATH_PARAMETERS = ("path", "file_path", "directory", "dir_path", "cwd", "root")
#: Tools whose execution_spec does not say what they do with files.
_WRITING_TOOLS = frozenset({"write_file", "delete_file"})


class FilesystemAwareExecutor(TypedConfig, DirectToolExecutor):
    """1. A tool in ``deny_tools`` is refused, and with ``allow_tools`` every tool that is not in there.

    2. Paths among a call's parameters must lie below ``write_roots`` if the tool writes files, else below
       ``read_roots``; links are followed before that is decided. Without roots any path may be given. A relative path
       begins where it does for the tool: at the ``root`` or ``cwd`` of its config, else in the working directory.
    3. This looks at parameters, before the call. What a tool opens is confined by the tool: set its ``root``.
    """

    class Config(BaseModel):
        allow_tools: list[str] = Field(default_factory=list)
        deny_tools: list[str] = Field(default_factory=list)
        read_roots: list[str] = Field(default_factory=list)
        write_roots: list[str] = Field(default_factory=list)

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        TypedConfig.__init__(self, config)

    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision:
        tool, config = request.tool_id, self.cfg
        if tool in config.deny_tools:
            return PolicyDecision(allowed=False, reason=f"the tool {tool!r} is in deny_tools")
        if config.allow_tools and tool not in config.allow_tools:
            return PolicyDecision(allowed=False, reason=f"the tool {tool!r} is not in allow_tools")
        spec = request.execution_spec
        writes = spec.writes_files or (tool in _WRITING_TOOLS and not spec.reads_files)
        reads = spec.reads_files or not writes
        paths = _paths(request.params, _start(request.tool))
        problem = await asyncio.to_thread(self._outside, paths, writes=writes, reads=reads)
        return PolicyDecision(allowed=problem is None, reason=problem or "", metadata={"policy": "filesystem"})

    def _outside(self, paths: Iterator[Path], *, writes: bool, reads: bool) -> str | None:
        """What is wrong with the paths, if something is."""
        for path in paths:
            for needed, name in ((writes, "write_roots"), (reads, "read_roots")):
                roots: list[str] = getattr(self.cfg, name)
                if needed and roots and not any(path.is_relative_to(Path(root).resolve()) for root in roots):
                    return f"{path} lies outside {name} ({', '.join(roots)})"
        return None


def _start(tool: Any) -> Path:
    config = getattr(tool, "cfg", None)
    given = getattr(config, "root", None) or getattr(config, "cwd", None)
    return Path(given) if isinstance(given, str | Path) else Path.cwd()


def _paths(params: Mapping[str, Any], start: Path) -> Iterator[Path]:
    for name in _PATH_PARAMETERS:
        value = params.get(name)
        if isinstance(value, str) and value.strip():
            yield (start / value).resolve()
