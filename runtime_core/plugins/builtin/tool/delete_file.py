"""Files and directories are deleted."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.confined_changes import ConfinedChanges
from runtime_core.plugins.builtin.tool.confined_files import RootConfig


class DeleteFileParameters(Parameters):
    path: str = Field(min_length=1, max_length=4096, description="Path, relative to the tool's directory")
    recursive: bool = Field(False, description="Whether a directory is deleted with everything in it")


class DeleteFileTool(BuiltinTool[DeleteFileParameters]):
    """``{"path": "notes.txt"}`` → ``{path, "type": "file" | "directory", "deleted": true}``."""

    name = "delete_file"
    description = "Delete a file, or a directory."
    Parameters = DeleteFileParameters
    Config = RootConfig
    cfg: RootConfig
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(side_effects="files", writes_files=True)

    def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        kind = ConfinedChanges(self.cfg.root, tool=self.name).delete(given.path, recursive=given.recursive)
        return {"path": given.path, "type": kind, "deleted": True}
