"""The file tools: they read below their root, quickly, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runtime_core.errors import (
    PermanentToolError,
    PluginConfigError,
    ToolAuthError,
    ToolTimeoutError,
    ToolValidationError,
)
from runtime_core.plugins.builtin.tool.grep_files import GrepFilesTool
from runtime_core.plugins.builtin.tool.grep_search import search
from runtime_core.plugins.builtin.tool.list_files import ListFilesTool
from runtime_core.plugins.builtin.tool.read_file import ReadFileTool


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a way out by every kind of link, beside a secret."""
    (tmp_path / "secret.txt").write_text("the secret")
    root = tmp_path / "root"
    (root / "notes" / "deep").mkdir(parents=True)
    (root / "readme.md").write_text("# Title\nhello world\n")
    (root / "notes" / "today.txt").write_text("buy milk\nHello again\n")
    (root / "notes" / "deep" / "old.txt").write_text("hello\n")
    (root / "picture.bin").write_bytes(b"\x89PNG\0hello")
    (root / "latin.txt").write_bytes(b"caf\xe9 hello\n")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "inner.md").symlink_to(root / "readme.md")
    os.mkfifo(root / "pipe")
    return root


def read(root: Path, path: Any, **config: Any) -> dict[str, Any]:
    return ReadFileTool({"root": str(root), **config}).invoke({"path": path}, None)


def test_a_file_is_read(root: Path) -> None:
    assert read(root, "readme.md") == {
        "path": "readme.md",
        "content": "# Title\nhello world\n",
        "size": 20,
        "truncated": False,
    }
    assert read(root, str(root / "notes" / "today.txt"))["content"].startswith("buy")
    assert read(root, "inner.md")["size"] == 20
    assert read(root, "latin.txt")["content"] == "caf� hello\n"


def test_a_long_file_is_cut_and_says_so(root: Path) -> None:
    (root / "long.txt").write_text("é" * 100)

    answer = read(root, "long.txt", max_bytes=5)

    assert (answer["content"], answer["size"], answer["truncated"]) == ("éé", 200, True)


ESCAPES = ["../secret.txt", "notes/../../secret.txt", "link.txt", "up/secret.txt", "/etc/passwd", "up"]


@pytest.mark.parametrize("path", ESCAPES)
async def test_nothing_outside_the_root_is_reached(root: Path, path: str) -> None:
    with pytest.raises(ToolAuthError, match="outside"):
        read(root, path)
    with pytest.raises(ToolAuthError, match="outside"):
        ListFilesTool({"root": str(root)}).invoke({"path": path}, None)
    with pytest.raises(ToolAuthError, match="outside"):
        await GrepFilesTool({"root": str(root)}).invoke({"path": path, "pattern": "."}, None)


@pytest.mark.parametrize(
    ("path", "error", "essentials"),
    [
        ("readm.md", PermanentToolError, ["'readm.md' does not exist", "Did you mean 'readme.md'?"]),
        ("nowhere/x", PermanentToolError, ["does not exist", "list_files"]),
        ("notes", PermanentToolError, ["not a regular file"]),
        ("pipe", PermanentToolError, ["not a regular file"]),
        ("picture.bin", PermanentToolError, ["not a text file"]),
        ("readme.md/x", PermanentToolError, ["not a directory"]),
        ("a\0b", ToolValidationError, ["NUL"]),
        ("x" * 300, PermanentToolError, ["too long"]),
        ("", ToolValidationError, ["path"]),
        (7, ToolValidationError, ["(value 7)"]),
    ],
)
def test_what_cannot_be_read_is_said(root: Path, path: Any, error: type[Exception], essentials: list[str]) -> None:
    with pytest.raises(error) as caught:
        read(root, path)

    for essential in essentials:
        assert essential in str(caught.value)
    assert str(root) not in str(caught.value)


def list_files(root: Path, **params: Any) -> list[str]:
    return ListFilesTool({"root": str(root)}).invoke(params, None)["files"]


def test_files_are_listed_by_pattern_and_depth(root: Path) -> None:
    assert list_files(root) == ["latin.txt", "picture.bin", "readme.md"]
    assert list_files(root, pattern="*.md") == ["readme.md"]
    assert list_files(root, pattern="*.txt", recursive=True) == ["latin.txt", "notes/deep/old.txt", "notes/today.txt"]
    assert list_files(root, pattern="**/*.txt") == ["latin.txt", "notes/deep/old.txt", "notes/today.txt"]
    assert list_files(root, path="notes") == ["today.txt"]
    assert list_files(root, pattern="../*", recursive=True) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("notes/*.txt", ["notes/today.txt"]),
        ("./notes/*", ["notes/today.txt"]),
        ("notes/**/*.txt", ["notes/deep/old.txt", "notes/today.txt"]),
        ("**/deep/*", ["notes/deep/old.txt"]),
        ("notes/**", ["notes/deep/old.txt", "notes/today.txt"]),
        ("deep/*", []),
        ("**", ["latin.txt", "notes/deep/old.txt", "notes/today.txt", "picture.bin", "readme.md"]),
        ("**/", ["latin.txt", "notes/deep/old.txt", "notes/today.txt", "picture.bin", "readme.md"]),
        ("/", []),
        ("**/a" * 40, []),
    ],
)
def test_a_pattern_with_a_slash_is_one_of_paths(root: Path, pattern: str, found: list[str]) -> None:
    assert list_files(root, pattern=pattern) == found


def test_a_directory_that_is_none_is_said(root: Path) -> None:
    with pytest.raises(PermanentToolError, match="'note' does not exist") as caught:
        list_files(root, path="note")
    assert "Did you mean 'notes'?" in str(caught.value)
    with pytest.raises(PermanentToolError, match="is not a directory"):
        list_files(root, path="readme.md")


async def grep(root: Path, pattern: str, **params: Any) -> dict[str, Any]:
    return await GrepFilesTool({"root": str(root)}).invoke({"pattern": pattern, **params}, None)


async def test_matching_lines_are_found_and_their_files_can_be_read(root: Path) -> None:
    answer = await grep(root, "hel+o")

    assert answer["matches"] == [
        {"file": "notes/deep/old.txt", "line": 1, "content": "hello"},
        {"file": "readme.md", "line": 2, "content": "hello world"},
    ]
    assert (answer["total"], answer["truncated"]) == (2, False)
    below = await grep(root, "hello", path="notes", case_sensitive=False)
    assert [match["file"] for match in below["matches"]] == ["notes/deep/old.txt", "notes/today.txt"]
    assert read(root, below["matches"][1]["file"])["size"] > 0
    assert (await grep(root, "Title", path="readme.md"))["matches"][0]["file"] == "readme.md"
    assert (await grep(root, "Title", path=""))["matches"][0]["file"] == "readme.md"


def test_a_directory_that_became_a_link_since_it_was_listed_is_not_searched(root: Path) -> None:
    order = {"pattern": ".", "case_sensitive": True, "root": str(root), "max_file_bytes": 1000}

    assert search({**order, "files": [("notes/deep/old.txt", "old")]})["total"] == 1
    for way_out in ("up/secret.txt", "link.txt", "up/root/readme.md"):
        assert search({**order, "files": [(way_out, "x")]})["total"] == 0


async def test_a_hundred_matches_are_shown_and_all_are_counted(root: Path) -> None:
    (root / "many.txt").write_text("needle\n" * 250)

    answer = await grep(root, "needle")

    assert (len(answer["matches"]), answer["total"], answer["truncated"]) == (100, 250, True)


async def test_a_pattern_that_is_none_is_said(root: Path) -> None:
    with pytest.raises(ToolValidationError, match=r"'f\(' is not a regular expression") as caught:
        await grep(root, "f(")
    assert r"'f\\('" in str(caught.value)


async def test_a_pattern_that_never_ends_is_ended(root: Path) -> None:
    (root / "a.txt").write_text("a" * 64 + "!")
    begun = time.monotonic()

    with pytest.raises(ToolTimeoutError, match=r"longer than 0\.5 s"):
        await GrepFilesTool({"root": str(root), "timeout_s": 0.5}).invoke({"pattern": "(a+)+$"}, None)

    assert time.monotonic() - begun < 5


def test_a_misspelled_root_is_refused_rather_than_ignored(root: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"config\.rooot: unknown field"):
        ReadFileTool({"rooot": str(root)})
