"""Files below one directory and nowhere else: what the file tools may touch.

A path is resolved, symbolic links included, before it is compared with the root. It is then walked from the root one
component at a time without following a link, so that a directory which becomes one meanwhile leads nowhere. Only
regular files are opened: a FIFO would block for ever, a device has no end.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from runtime_core.errors import PermanentToolError, ToolAuthError, ToolValidationError
from runtime_core.suggestions import did_you_mean

#: Directory entries that one call looks at: bounds its time on a huge tree.
_MAX_ENTRIES = 100_000


class RootConfig(BaseModel):
    """``root``: the directory that a file tool is confined to; the process's working directory if unset."""

    model_config = ConfigDict(extra="forbid")

    root: Path = Field(default_factory=Path.cwd)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Relative paths of the regular files below a directory, sorted; ``complete`` is false if there are more."""

    files: list[str]
    complete: bool


class ConfinedFiles:
    """The files below ``root``. Errors name paths as they were given, never where the root lies."""

    def __init__(self, root: Path, *, tool: str) -> None:
        self.root = Path(os.path.realpath(root))
        self._tool = tool

    def resolve(self, path: str) -> Path:
        """The real path of ``path``, relative to the root or absolute.

        Raises ToolAuthError if it is outside, PermanentToolError if there is no root.
        """
        if not self.root.is_dir():
            raise PermanentToolError(
                "the directory that this tool may use does not exist",
                hint="create it where the worker runs, or correct it in the tool's config",
                tool_id=self._tool,
            )
        if "\0" in path:
            raise ToolValidationError("path contains a NUL character", hint="remove it", tool_id=self._tool)
        try:
            real = Path(os.path.realpath(self.root / path))
        except OSError as error:
            raise self._failure(path, error) from error
        if not real.is_relative_to(self.root):
            raise ToolAuthError(
                f"path {path!r} is outside the directory that this tool may use",
                hint="use a path below it, such as '.' or 'notes/today.txt'",
                tool_id=self._tool,
            )
        return real

    def open(self, path: str) -> BinaryIO:
        """A regular file, for reading. Raises ToolAuthError outside the root, PermanentToolError if that fails."""
        real = self.resolve(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with self.parent_of(real) as parent:
                descriptor = os.open(real.name or ".", flags, dir_fd=parent)
        except OSError as error:
            raise self._failure(path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PermanentToolError(
                f"{path!r} is not a regular file", hint="use list_files to see the files", tool_id=self._tool
            )
        return os.fdopen(descriptor, "rb")

    @contextlib.contextmanager
    def parent_of(self, real: Path, *, create: bool = False) -> Generator[int]:
        """A descriptor of the directory that holds ``real``, a path of ``resolve``; ``create`` makes what is missing.

        Raises OSError.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.root, flags)
        try:
            for name in real.parent.relative_to(self.root).parts if real != self.root else ():
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                below = os.open(name, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def directory(self, path: str) -> Path:
        """The real path of a directory."""
        real = self.resolve(path)
        if not real.is_dir():
            problem = "is not a directory" if real.exists() else "does not exist"
            raise PermanentToolError(
                f"directory {path!r} {problem}", hint=self._advice(real) or "use '.' for the top", tool_id=self._tool
            )
        return real

    def tree(self, directory: Path, *, recursive: bool) -> Tree:
        """The regular files below ``directory``; links are neither followed nor listed."""
        files: list[str] = []
        for seen, entry in enumerate(_walk(directory, recursive=recursive)):
            if seen == _MAX_ENTRIES:
                return Tree(files=sorted(files), complete=False)
            if entry.is_file(follow_symlinks=False):
                files.append(os.path.relpath(entry.path, directory))
        return Tree(files=sorted(files), complete=True)

    def _failure(self, path: str, error: OSError) -> PermanentToolError:
        if isinstance(error, FileNotFoundError):
            hint = self._advice(Path(os.path.normpath(self.root / path))) or "use list_files to see the files"
            return PermanentToolError(f"file {path!r} does not exist", hint=hint, tool_id=self._tool)
        problem = os.strerror(error.errno) if error.errno else type(error).__name__
        return PermanentToolError(
            f"file {path!r} cannot be read: {problem.lower()}", hint="choose another file", tool_id=self._tool
        )

    def _advice(self, missing: Path) -> str:
        if not missing.parent.is_relative_to(self.root):
            return ""
        try:
            return did_you_mean(missing.name, os.listdir(missing.parent)).strip()
        except OSError:
            return ""


def _walk(directory: Path, *, recursive: bool) -> Iterator[os.DirEntry[str]]:
    pending = [str(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    yield entry
                    if recursive and entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            # A directory that may not be read, or went meanwhile, has nothing to show.
            continue
