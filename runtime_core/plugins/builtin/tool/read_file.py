"""The text of a file."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import PermanentToolError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles, RootConfig


class ReadFileConfig(RootConfig):
    #: Bytes that are read at most; the rest of a longer file is left out, and the result says so.
    max_bytes: PositiveInt = 1_000_000


class ReadFileParameters(Parameters):
    path: str = Field(min_length=1, max_length=4096, description="Path of the file, relative to the tool's directory")


class ReadFileTool(BuiltinTool[ReadFileParameters]):
    """``{"path": "notes.txt"}`` → ``{path, content, size, truncated}``; size in bytes, of the whole file."""

    name = "read_file"
    description = "Read a text file and return its content."
    Parameters = ReadFileParameters
    Config = ReadFileConfig
    cfg: ReadFileConfig

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="none", reads_files=True)

    def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        path = self.check(params).path
        with ConfinedFiles(self.cfg.root, tool=self.name).open(path) as file:
            data = file.read(self.cfg.max_bytes + 1)
            size = file.seek(0, 2)
        truncated = len(data) > self.cfg.max_bytes
        if b"\0" in data:
            raise PermanentToolError(f"{path!r} is not a text file", hint="choose a text file", tool_id=self.name)
        return {
            "path": path,
            "content": data[: self.cfg.max_bytes].decode(errors="ignore" if truncated else "replace"),
            "size": size,
            "truncated": truncated,
        }
