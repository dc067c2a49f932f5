"""Lines of files that match a regular expression, found by the program ``rg``: faster than ``grep_files``."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import PermanentToolError, ToolTimeoutError, ToolUnavailableError, ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles, RootConfig
from runtime_core.plugins.builtin.tool.grep_search import MAX_LINE, MAX_MATCHES
from runtime_core.plugins.builtin.tool.processes import run_process

#: Bytes of rg's output that are looked at.
_MAX_OUTPUT = 16_000_000
#: rg takes its options from no file of the worker's user.
_OPTIONS = ("--json", "--no-config", "--no-follow", "--no-messages", "--max-columns=2000")


class RipgrepConfig(RootConfig):
    #: Seconds for one search.
    timeout_s: PositiveFloat = 10.0


class RipgrepParameters(Parameters):
    pattern: str = Field(min_length=1, max_length=1000, description="Regular expression (Rust's)")
    path: str = Field(".", max_length=4096, description="File or directory, relative to the tool's directory")
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ")
    file_type: str | None = Field(
        None, max_length=32, pattern=r"^[a-z0-9_+-]+$", description="Kind of files to search, e.g. py, js or md"
    )


class RipgrepTool(BuiltinTool[RipgrepParameters]):
    """``{"pattern": "x"}`` → ``{pattern, matches: [{file, line, content}], total, truncated}``, 100 matches at most.

    Hidden files and those that a .gitignore names are not searched.
    """

    name = "ripgrep"
    description = "Search files quickly for a regular expression and return the matching lines."
    Parameters = RipgrepParameters
    Config = RipgrepConfig
    cfg: RipgrepConfig

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            concurrency_safe=True,
            side_effects="none",
            reads_files=True,
            default_timeout_ms=limit_beyond(self.cfg.timeout_s),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        program = shutil.which("rg")
        if program is None:
            raise ToolUnavailableError(
                "the program 'rg' is not installed",
                hint="install the package 'ripgrep' where the worker runs, or use grep_files",
                tool_id=self.name,
            )
        directory, target, shown = await asyncio.to_thread(self._target, given.path)
        options = [*_OPTIONS, *(() if given.case_sensitive else ("--ignore-case",))]
        options += [f"--type={given.file_type}"] if given.file_type else []
        outcome = await run_process(
            [program, *options, f"--regexp={given.pattern}", "--", target],
            cwd=directory,
            environment={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            timeout_s=self.cfg.timeout_s,
            max_bytes=_MAX_OUTPUT,
        )
        if outcome.timed_out:
            raise ToolTimeoutError(
                f"the search took longer than {self.cfg.timeout_s:g} s",
                hint="use a simpler pattern or a smaller directory",
                tool_id=self.name,
            )
        if outcome.exit_code not in (0, 1):  # 1: nothing found
            self._refuse(outcome.exit_code, outcome.stderr.decode(errors="replace").strip())
        matches, total = await asyncio.to_thread(_matches, outcome.stdout, shown)  # it may be all of _MAX_OUTPUT
        return {
            "pattern": given.pattern,
            "matches": matches,
            "total": total,
            "truncated": outcome.truncated or total > len(matches),
        }

    def _target(self, path: str) -> tuple[Path, str, str]:
        """The directory to search in, what of it, and the directory's path as it is shown: what read_file takes."""
        files = ConfinedFiles(self.cfg.root, tool=self.name)
        real = files.resolve(path)
        if real.is_file():
            return real.parent, f"./{real.name}", os.path.dirname(path)
        return files.directory(path), "./", path

    def _refuse(self, exit_code: int, problem: str) -> None:
        if "regex" in problem or "unrecognized file type" in problem:
            raise ToolValidationError(f"rg: {problem[:500]}", hint="correct it and search again", tool_id=self.name)
        if problem:  # without one, a file could not be read: what was found counts
            raise PermanentToolError(f"rg ended with {exit_code}: {problem[:500]}", tool_id=self.name)


def _matches(output: bytes, directory: str) -> tuple[list[dict[str, Any]], int]:
    matches: list[dict[str, Any]] = []
    total = 0
    for line in output.splitlines():
        try:
            found: Any = json.loads(line)
        except ValueError:  # the output was cut
            break
        if found.get("type") != "match":
            continue
        total += 1
        if len(matches) < MAX_MATCHES:
            matches.append(_match(found["data"], directory))
    return matches, total


def _match(data: Mapping[str, Any], directory: str) -> dict[str, Any]:
    file = os.path.normpath(os.path.join(directory, _text(data["path"])))
    return {"file": file, "line": data["line_number"], "content": _text(data["lines"]).rstrip()[:MAX_LINE]}


def _text(said: Mapping[str, str]) -> str:
    """rg writes ``{"bytes": <base64>}`` in place of ``{"text": …}`` for what is not UTF-8."""
    return said["text"] if "text" in said else base64.b64decode(said["bytes"]).decode(errors="replace")
