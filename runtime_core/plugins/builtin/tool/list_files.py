"""The names of files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from pydantic import Field

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles, RootConfig

#: Names in one result: more would fill a model's context.
_MAX_FILES = 1000


class ListFilesParameters(Parameters):
    path: str = Field(".", max_length=4096, description="Directory, relative to the tool's directory")
    pattern: str = Field("*", min_length=1, max_length=200, description="Glob pattern of the names, e.g. *.txt")
    recursive: bool = Field(False, description="Whether to look into the directories below it too")


class ListFilesTool(BuiltinTool[ListFilesParameters]):
    """``{"path": ".", "pattern": "*.txt"}`` → ``{path, pattern, files, count, truncated}``."""

    name = "list_files"
    description = "List the files of a directory whose names match a pattern."
    Parameters = ListFilesParameters
    Config = RootConfig
    cfg: RootConfig

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="none", reads_files=True)

    def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        files = ConfinedFiles(self.cfg.root, tool=self.name)
        recursive = given.recursive or "**" in given.pattern
        pattern = given.pattern.rpartition("**/")[2]
        tree = files.tree(files.directory(given.path), recursive=recursive)
        matching = [name for name in tree.files if PurePosixPath(name).match(pattern)]
        return {
            "path": given.path,
            "pattern": given.pattern,
            "files": matching[:_MAX_FILES],
            "count": len(matching),
            "truncated": len(matching) > _MAX_FILES or not tree.complete,
        }
