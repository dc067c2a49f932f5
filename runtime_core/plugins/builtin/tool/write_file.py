"""Text is written to a file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.confined_changes import ConfinedChanges
from runtime_core.plugins.builtin.tool.confined_files import RootConfig


class WriteFileConfig(RootConfig):
    #: Bytes that a file may have after a call.
    max_bytes: PositiveInt = 1_000_000


class WriteFileParameters(Parameters):
    path: str = Field(min_length=1, max_length=4096, description="Path of the file, relative to the tool's directory")
    content: str = Field("", description="The text")
    mode: Literal["w", "a"] = Field("w", description="w: the file holds this text alone; a: it is added at the end")


class WriteFileTool(BuiltinTool[WriteFileParameters]):
    """``{"path": "a/b.txt", "content": "x"}`` → ``{path, bytes_written, mode}``; missing directories are made."""

    name = "write_file"
    description = "Write a text to a file, or append it."
    Parameters = WriteFileParameters
    Config = WriteFileConfig
    cfg: WriteFileConfig
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(side_effects="files", writes_files=True)

    def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        try:
            content = given.content.encode()
        except UnicodeEncodeError as error:
            raise ToolValidationError(
                "content is not valid Unicode: it has half of a surrogate pair", hint="correct it", tool_id=self.name
            ) from error
        if len(content) > self.cfg.max_bytes:
            raise ToolValidationError(
                f"content has {len(content)} bytes; a file may have {self.cfg.max_bytes}",
                hint="write less, or several files",
                tool_id=self.name,
            )
        files = ConfinedChanges(self.cfg.root, tool=self.name)
        if given.mode == "w":
            files.replace(given.path, content)
        else:
            files.append(given.path, content, max_bytes=self.cfg.max_bytes)
        return {"path": given.path, "bytes_written": len(content), "mode": given.mode}
