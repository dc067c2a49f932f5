"""Lines of files that match a regular expression.

The search runs in a process of its own with a time limit. Python's ``re`` can backtrack for hours on a pattern such as
``(a+)+$``, it holds the interpreter lock while it does, and the pattern comes from a model: in a thread it would stop
the whole worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import PermanentToolError, ToolTimeoutError, ToolValidationError
from runtime_core.plugins.builtin.tool import grep_search
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles, RootConfig


class GrepFilesConfig(RootConfig):
    #: Seconds for one search.
    timeout_s: PositiveFloat = 10.0
    #: Bytes; a longer file is skipped.
    max_file_bytes: PositiveInt = 10_000_000


class GrepFilesParameters(Parameters):
    pattern: str = Field(min_length=1, max_length=1000, description="Regular expression (Python's re)")
    path: str = Field(".", max_length=4096, description="File or directory, relative to the tool's directory")
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ")


class GrepFilesTool(BuiltinTool[GrepFilesParameters]):
    """``{"pattern": "x"}`` → ``{pattern, matches: [{file, line, content}], total, truncated}``, 100 matches at most."""

    name = "grep_files"
    description = "Search files for a regular expression and return the matching lines."
    Parameters = GrepFilesParameters
    Config = GrepFilesConfig
    cfg: GrepFilesConfig

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            concurrency_safe=True,
            side_effects="none",
            reads_files=True,
            default_timeout_ms=limit_beyond(self.cfg.timeout_s),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        root, files, complete = await asyncio.to_thread(self._files, given.path)
        order = {
            "pattern": given.pattern,
            "case_sensitive": given.case_sensitive,
            "root": root,
            "files": files,
            "max_file_bytes": self.cfg.max_file_bytes,
        }
        found = await self._search(order)
        problem = found.get("problem")
        if problem is not None:
            raise ToolValidationError(
                f"pattern {given.pattern!r} is not a regular expression: {problem}",
                hint=f"to search for the text itself, use {re.escape(given.pattern)!r}",
                tool_id=self.name,
            )
        truncated = found["truncated"] or not complete
        return {"pattern": given.pattern, "matches": found["matches"], "total": found["total"], "truncated": truncated}

    def _files(self, path: str) -> tuple[str, list[tuple[str, ...]], bool]:
        """The root, files (path in it, path to show: what read_file takes), whether these are all."""
        files = ConfinedFiles(self.cfg.root, tool=self.name)
        real = files.resolve(path)
        below = os.path.relpath(real, files.root)
        if real.is_file():
            return str(files.root), [(below, path)], True
        tree = files.tree(files.directory(path), recursive=True)
        found = [tuple(os.path.normpath(os.path.join(start, name)) for start in (below, path)) for name in tree.files]
        return str(files.root), found, tree.complete

    async def _search(self, order: dict[str, Any]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            grep_search.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self.cfg.timeout_s):
                output, errors = await process.communicate(json.dumps(order).encode())
        except TimeoutError as error:
            raise ToolTimeoutError(
                f"the search took longer than {self.cfg.timeout_s:g} s",
                hint="use a simpler pattern or a smaller directory",
                tool_id=self.name,
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise PermanentToolError(f"the search failed: {''.join(last)}", tool_id=self.name)
        return json.loads(output)
