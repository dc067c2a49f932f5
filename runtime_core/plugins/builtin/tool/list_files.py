"""The names of files."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles, RootConfig

#: Names in one result: more would fill a model's context.
_MAX_FILES = 1000


class ListFilesParameters(Parameters):
    path: str = Field(".", max_length=4096, description="Directory, relative to the tool's directory")
    pattern: str = Field(
        "*", min_length=1, max_length=200, description="Glob pattern of names, e.g. *.txt, or of paths: docs/**/*.txt"
    )
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
        of_paths = "/" in given.pattern
        recursive = given.recursive or of_paths or "**" in given.pattern
        pattern = [part for part in given.pattern.split("/") if part not in ("", ".")]
        tree = files.tree(files.directory(given.path), recursive=recursive)
        matching = [
            name for name in tree.files if _fits(name.split("/") if of_paths else [name.rpartition("/")[2]], pattern)
        ]
        return {
            "path": given.path,
            "pattern": given.pattern,
            "files": matching[:_MAX_FILES],
            "count": len(matching),
            "truncated": len(matching) > _MAX_FILES or not tree.complete,
        }


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits; ``**`` stands for any number of its parts. Takes all ways at once, so none leads astray."""
    places = _reached({0}, pattern)
    for part in parts:
        open_places = [place for place in places if place < len(pattern)]
        stays = {place for place in open_places if pattern[place] == "**"}
        moves = {place + 1 for place in open_places if place not in stays and fnmatchcase(part, pattern[place])}
        places = _reached(stays | moves, pattern)
    return len(pattern) in places


def _reached(places: set[int], pattern: Sequence[str]) -> set[int]:
    """``places`` in the pattern, and those behind a ``**``, which may stand for nothing."""
    reached = set(places)
    for place in range(len(pattern)):
        if place in reached and pattern[place] == "**":
            reached.add(place + 1)
    return reached
