"""What ripgrep's output becomes; the program itself is played by a script that says what rg 13 said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runtime_core.errors import PermanentToolError, ToolAuthError, ToolTimeoutError, ToolUnavailableError
from runtime_core.plugins.builtin.tool.ripgrep import RipgrepTool

FOUND = """
{"type":"begin","data":{"path":{"text":"./below/a.txt"}}}
{"type":"match","data":{"path":{"text":"./below/a.txt"},"lines":{"text":"hello\\n"},"line_number":1}}
{"type":"match","data":{"path":{"text":"./below/a.txt"},"lines":{"bytes":"Y2Fm6SBoZWxsbwo="},"line_number":2}}
{"type":"summary","data":{}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root" / "a.txt").touch()
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    return tmp_path / "root"


def play(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have ``rg`` be this shell script; its arguments are in the file ``arguments`` beside it."""
    (directory / "bin").mkdir()
    program = directory / "bin" / "rg"
    program.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$PWD" "$@" > {directory}/arguments\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}/bin{os.pathsep}/usr/bin{os.pathsep}/bin")


async def search(root: Path, **params: Any) -> dict[str, Any]:
    tool = RipgrepTool({"root": str(root), "timeout_s": 0.5})
    return await tool.invoke({"pattern": "hello"} | params, None)


async def test_matches_carry_paths_that_read_file_takes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(tmp_path, monkeypatch, f"cat <<'END'\n{FOUND.strip()}\nEND")

    answer = await search(root, path="below/..")

    assert answer["matches"] == [
        {"file": "below/a.txt", "line": 1, "content": "hello"},
        {"file": "below/a.txt", "line": 2, "content": "caf� hello"},
    ]
    assert (answer["total"], answer["truncated"]) == (2, False)


async def test_what_a_model_chooses_is_no_option_of_rg(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(tmp_path, monkeypatch, "exit 1")

    answer = await search(root, pattern="--pre=sh", path="a.txt", case_sensitive=False, file_type="py")

    assert answer["matches"] == []
    directory, *arguments = (tmp_path / "arguments").read_text().splitlines()
    assert directory == str(root)
    assert {"--no-follow", "--no-config", "--ignore-case", "--type=py"} <= set(arguments)
    assert arguments[-3:] == ["--regexp=--pre=sh", "--", "./a.txt"]


@pytest.mark.parametrize("path", ["..", "out", "/etc"])
async def test_nothing_outside_the_root_is_searched(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    play(tmp_path, monkeypatch, "exit 1")

    with pytest.raises(ToolAuthError, match="outside"):
        await search(root, path=path)

    assert not (tmp_path / "arguments").exists()


async def test_what_went_wrong_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path, monkeypatch, "echo 'the disk is on fire' >&2; exit 2")
    with pytest.raises(PermanentToolError, match="the disk is on fire"):
        await search(root)

    (tmp_path / "bin" / "rg").write_text("#!/bin/sh\nsleep 60\n")
    with pytest.raises(ToolTimeoutError, match=r"longer than 0\.5 s"):
        await search(root)

    (tmp_path / "bin" / "rg").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ToolUnavailableError, match="'rg' is not installed") as caught:
        await search(root)
    assert "'ripgrep'" in str(caught.value)
