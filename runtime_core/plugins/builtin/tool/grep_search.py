"""The search itself, run as a script of its own (see grep_files.py): an order in JSON comes in, matches go out.

Standard library only, for the process starts without site-packages.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from typing import Any

#: Matches in one result, and characters of a line in it: more would fill a model's context.
MAX_MATCHES = 100
MAX_LINE = 500


def search(order: dict[str, Any]) -> dict[str, Any]:
    """``{matches, total, truncated}``, or ``{problem}`` if the pattern is none."""
    try:
        pattern = re.compile(order["pattern"], 0 if order["case_sensitive"] else re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        return {"problem": str(error)}
    matches: list[dict[str, Any]] = []
    total = 0
    for name, shown in order["files"]:
        text = read_text(order["root"], name, order["max_file_bytes"])
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                total += 1
                if len(matches) < MAX_MATCHES:
                    matches.append({"file": shown, "line": number, "content": line.rstrip()[:MAX_LINE]})
    return {"matches": matches, "total": total, "truncated": total > len(matches)}


def read_text(root: str, path: str, max_bytes: int) -> str:
    """The text of a regular file below ``root``; empty if it is none, is too large, is binary or cannot be read."""
    try:
        descriptor = _open_below(root, path)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
                return ""
            data = file.read(max_bytes)
        return "" if b"\0" in data else data.decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _open_below(root: str, path: str) -> int:
    """Follows no link, for a directory may have become one since it was listed."""
    *directories, name = path.split("/")
    flags = os.O_RDONLY | os.O_NOFOLLOW
    place = os.open(root, flags | os.O_DIRECTORY)
    try:
        for directory in directories:
            below = os.open(directory, flags | os.O_DIRECTORY, dir_fd=place)
            os.close(place)
            place = below
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)


if __name__ == "__main__":
    json.dump(search(json.load(sys.stdin)), sys.stdout)
