"""The tools that write and delete: below their root, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from runtime_core.errors import PermanentToolError, ToolAuthError, ToolError, ToolValidationError
from runtime_core.plugins.builtin.tool.confined_changes import ConfinedChanges
from runtime_core.plugins.builtin.tool.delete_file import DeleteFileTool
from runtime_core.plugins.builtin.tool.write_file import WriteFileTool


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a way out by every kind of link, beside a file that must stay as it is."""
    (tmp_path / "outside.txt").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "today.txt").write_text("buy milk\n")
    (root / "readme.md").write_text("hello\n")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "dangling.txt").symlink_to(tmp_path / "new.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "inner.md").symlink_to(root / "readme.md")
    (root / "inside").symlink_to(root / "notes")
    os.mkfifo(root / "pipe")
    return root


def write(root: Path, path: str, content: str = "x", mode: str = "w", **config: Any) -> dict[str, Any]:
    return WriteFileTool({"root": str(root), **config}).invoke({"path": path, "content": content, "mode": mode}, None)


def delete(root: Path, path: str, **params: Any) -> dict[str, Any]:
    return DeleteFileTool({"root": str(root)}).invoke({"path": path, **params}, None)


def test_a_file_is_written_replaced_and_added_to(root: Path) -> None:
    assert write(root, "a/b/c.txt", "é\n") == {"path": "a/b/c.txt", "bytes_written": 3, "mode": "w"}
    write(root, "a/b/c.txt", "one\n")
    write(root, "a/b/c.txt", "two\n", mode="a")
    write(root, "a/new.txt", "first", mode="a")

    assert (root / "a/b/c.txt").read_text() == "one\ntwo\n"
    assert (root / "a/new.txt").read_text() == "first"
    assert sorted(os.listdir(root / "a/b")) == ["c.txt"]


def test_a_file_keeps_its_permissions(root: Path) -> None:
    (root / "readme.md").chmod(0o640)

    write(root, "readme.md")

    assert stat.S_IMODE((root / "readme.md").stat().st_mode) == 0o640


def test_a_link_that_stays_inside_is_written_through(root: Path) -> None:
    write(root, "inner.md", "changed")
    write(root, "inside/today.txt", "changed")

    assert (root / "inner.md").is_symlink()
    assert (root / "readme.md").read_text() == (root / "notes/today.txt").read_text() == "changed"


ESCAPES = [
    "../outside.txt",
    "notes/../../outside.txt",
    "link.txt",
    "dangling.txt",
    "up/outside.txt",
    "up/elsewhere/new.txt",
    "/etc/runlane-test",
    "..",
]


@pytest.mark.parametrize("mode", ["w", "a"])
@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_outside_the_root_is_written(root: Path, path: str, mode: str) -> None:
    with pytest.raises(ToolAuthError, match="outside"):
        write(root, path, mode=mode)

    assert (root.parent / "outside.txt").read_text() == "precious"
    assert sorted(os.listdir(root.parent)) == ["elsewhere", "outside.txt", "root"]
    assert os.listdir(root.parent / "elsewhere") == []


@pytest.mark.parametrize(
    "path", ["../outside.txt", "up/outside.txt", "up/elsewhere", "/etc/hostname", ".", "", "..", "up/root"]
)
def test_nothing_outside_the_root_is_deleted_nor_the_root_itself(root: Path, path: str) -> None:
    with pytest.raises((ToolAuthError, ToolValidationError)):
        delete(root, path, recursive=True)

    assert (root.parent / "outside.txt").read_text() == "precious"
    assert (root / "notes").exists()
    assert (root.parent / "elsewhere").exists()


def test_the_directory_of_the_tool_itself_is_named_as_such(root: Path) -> None:
    for path in (".", "notes/..", str(root)):
        with pytest.raises(ToolAuthError, match="the directory of this tool itself"):
            delete(root, path, recursive=True)


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(root: Path) -> None:
    files = ConfinedChanges(root, tool="write_file")
    real = files.resolve("notes/new.txt")
    (root / "notes").rename(root / "moved")
    (root / "notes").symlink_to(root.parent / "elsewhere")

    with pytest.raises(OSError, match="Not a directory"), files.parent_of(real):
        pass


def test_files_links_and_directories_are_deleted(root: Path) -> None:
    assert delete(root, "readme.md") == {"path": "readme.md", "type": "file", "deleted": True}
    assert delete(root, "link.txt")["type"] == "file"
    assert delete(root, "up")["type"] == "file"
    assert delete(root, "pipe")["type"] == "file"
    with pytest.raises(PermanentToolError, match="not empty") as caught:
        delete(root, "notes")
    assert "set recursive" in str(caught.value)
    assert delete(root, "notes", recursive=True)["type"] == "directory"

    assert sorted(os.listdir(root)) == ["dangling.txt", "inner.md", "inside"]
    assert (root.parent / "outside.txt").read_text() == "precious"


def test_deleting_a_tree_does_not_follow_the_links_in_it(root: Path) -> None:
    (root / "notes" / "way_out").symlink_to(root.parent / "elsewhere")
    (root.parent / "elsewhere" / "kept.txt").touch()

    delete(root, "notes", recursive=True)

    assert (root.parent / "elsewhere" / "kept.txt").exists()


@pytest.mark.parametrize(
    ("path", "content", "error", "essential"),
    [
        ("notes", "x", PermanentToolError, "not a regular file"),
        ("notes/", "x", PermanentToolError, "is a directory"),
        (".", "x", PermanentToolError, "is a directory"),
        ("pipe", "x", PermanentToolError, "not a regular file"),
        ("readme.md/x", "x", PermanentToolError, "readme.md/x"),
        ("x" * 300, "x", PermanentToolError, "too long"),
        ("a\0b", "x", ToolValidationError, "NUL"),
        ("big.txt", "x" * 11, ToolValidationError, "11 bytes"),
        ("half.txt", "\ud800", ToolValidationError, "Unicode"),
    ],
)
def test_what_cannot_be_written_is_said(
    root: Path, path: str, content: str, error: type[ToolError], essential: str
) -> None:
    before = sorted(os.listdir(root))

    with pytest.raises(error) as caught:
        write(root, path, content, max_bytes=10)

    assert essential in str(caught.value)
    assert caught.value.hint
    assert str(root) not in str(caught.value)
    assert sorted(os.listdir(root)) == before


def test_a_file_does_not_grow_beyond_its_limit(root: Path) -> None:
    with pytest.raises(ToolValidationError, match="larger than 8 bytes"):
        write(root, "readme.md", "abc", mode="a", max_bytes=8)

    assert (root / "readme.md").read_text() == "hello\n"


def test_what_is_not_there_is_said_with_a_near_match(root: Path) -> None:
    with pytest.raises(PermanentToolError, match=r"'readm\.md' does not exist") as caught:
        delete(root, "readm.md")
    assert "Did you mean 'readme.md'?" in str(caught.value)


def test_a_root_that_is_not_there_is_the_configs_mistake(tmp_path: Path) -> None:
    for ask in (write, delete):
        with pytest.raises(PermanentToolError, match="directory that this tool may use does not exist") as caught:
            ask(tmp_path / "gone", "notes.txt")
        assert "correct it in the tool's config" in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    name = "\u6f22" * 85
    WriteFileTool({"root": str(tmp_path)}).invoke({"path": name, "content": "x"}, None)

    assert (tmp_path / name).read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == [name]
