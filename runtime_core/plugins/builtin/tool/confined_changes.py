"""Files below one directory are written and deleted there and nowhere else."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from runtime_core.errors import PermanentToolError, ToolAuthError, ToolValidationError
from runtime_core.plugins.builtin.tool.confined_files import ConfinedFiles

#: Permissions of a new file before the process's umask.
_NEW_FILE = 0o666


class ConfinedChanges(ConfinedFiles):
    """The files below ``root``, to be changed. A link as the last component is written through if it stays inside."""

    def replace(self, path: str, content: bytes) -> None:
        """Give the file ``content`` and nothing else, at once: a reader sees the old content or the new one.

        Directories that are missing are made. Raises ToolAuthError outside the root, PermanentToolError if it fails.
        """
        real = self._file(path)
        temporary = f".{secrets.token_hex(8)}.tmp"
        with self._changing(path), self.parent_of(real, create=True) as parent:
            mode = _mode_of_regular(real.name, parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, _NEW_FILE, dir_fd=parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if mode is not None:
                        os.fchmod(descriptor, mode)
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, real.name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def append(self, path: str, content: bytes, *, max_bytes: int) -> None:
        """Add ``content`` to the end; the file is made if it is missing, and refused beyond ``max_bytes``."""
        real = self._file(path)
        with self._changing(path), self.parent_of(real, create=True) as parent:
            _mode_of_regular(real.name, parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(real.name, flags, _NEW_FILE, dir_fd=parent), "ab") as file:
                if os.fstat(file.fileno()).st_size + len(content) > max_bytes:
                    raise ToolValidationError(
                        f"{path!r} would become larger than {max_bytes} bytes",
                        hint="write to another file",
                        tool_id=self._tool,
                    )
                file.write(content)

    def delete(self, path: str, *, recursive: bool) -> str:
        """Delete a file, a link (not what it leads to) or a directory, and return which: ``file`` or ``directory``."""
        given = Path(os.path.normpath(self.root / path))
        if given == self.root:
            raise ToolAuthError(
                f"{path!r} is the directory of this tool itself", hint="name something in it", tool_id=self._tool
            )
        real = self.resolve(os.path.dirname(given)) / given.name
        with self._changing(path), self.parent_of(real) as parent:
            if not stat.S_ISDIR(os.stat(real.name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(real.name, dir_fd=parent)
                return "file"
            if recursive:
                shutil.rmtree(real.name, dir_fd=parent)
            else:
                os.rmdir(real.name, dir_fd=parent)
            return "directory"

    def _file(self, path: str) -> Path:
        real = self.resolve(path)
        if real == self.root or path.endswith("/"):
            raise PermanentToolError(f"{path!r} is a directory", hint="name a file in it", tool_id=self._tool)
        return real

    @contextlib.contextmanager
    def _changing(self, path: str) -> Generator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._failure(path, error) from error
        except OSError as error:
            problem = os.strerror(error.errno) if error.errno else str(error)
            hint = "set recursive to delete it with what is in it" if "not empty" in problem else "choose another path"
            raise PermanentToolError(
                f"{path!r} cannot be changed: {problem.lower()}", hint=hint, tool_id=self._tool
            ) from error


def _mode_of_regular(name: str, parent: int) -> int | None:
    """The permissions of the file, None if there is none yet. Raises OSError if it is something else than a file."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError("it is not a regular file")
    return stat.S_IMODE(mode)
