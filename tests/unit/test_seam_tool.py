"""Every tool of the registry, driven through the same runs: a model calls it well, and calls it badly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.run import StopReason
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit import mcp_plain_server
from tests.unit.kernel_setup import config, recorded, request
from tests.unit.loopback_http import Response, loopback_server

TOOLS = sorted(BUILTINS[Seam.TOOL])


@dataclass(frozen=True, kw_only=True)
class Case:
    """``{root}`` and ``{url}`` in texts stand for a directory and a server; ``answer`` is a part of the answer."""

    params: dict[str, Any]
    answer: dict[str, Any]
    bad: dict[str, Any] = field(default_factory=lambda: {"no_such_parameter": 1})
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    bad_code: str = "tool.validation"


ROOT = {"root": "{root}"}
URL = "https://ada@example.com:8443/a/b?q=1&q=2#top"
CASES: dict[str, Case] = {
    "builtin_search": Case(params={"query": "memory"}, answer={"query": "memory"}, bad={"limit": 0}),
    "calc": Case(params={"expression": "6*7"}, answer={"result": 42}, bad={"expression": "a"}),
    "current_time": Case(params={}, answer={"timezone": "UTC"}, bad={"timezone": "Mars/Olympus"}),
    "date_diff": Case(
        params={"date1": "2025-03-01", "date2": "28/02/2024", "unit": "days"},
        answer={"result": 367, "seconds": 367 * 86400.0},
        bad={"date1": "soon", "date2": "2025-01-01"},
    ),
    "date_parse": Case(
        params={"date": "January 31, 2025"},
        answer={"parsed": "2025-01-31T00:00:00+00:00", "weekday": "Friday", "timestamp": 1738281600.0},
        bad={"date": "2025-02-30"},
    ),
    "delete_file": Case(
        params={"path": "notes.txt"},
        answer={"path": "notes.txt", "type": "file", "deleted": True},
        bad={"path": "../outside.txt"},
        config=ROOT,
        bad_code="tool.auth",
    ),
    "execute_command": Case(
        params={"command": "echo hello"},
        answer={"stdout": "hello\n", "returncode": 0, "success": True},
        bad={"command": "echo hello | wc"},
        config={"command_allowlist": ["echo"]},
    ),
    "get_env": Case(
        params={"key": "SEAM_MODE"},
        answer={"value": "testing", "exists": True},
        bad={"key": "HOME"},
        config={"allowed": ["SEAM_*"]},
        bad_code="tool.auth",
    ),
    "grep_files": Case(
        params={"pattern": "mil."},
        answer={"matches": [{"file": "notes.txt", "line": 1, "content": "buy milk"}], "total": 1},
        bad={"pattern": "("},
        config=ROOT,
    ),
    "host_lookup": Case(
        params={"url": URL},
        answer={"host": "example.com", "port": 8443, "has_https": True, "domain": "com"},
        bad={"url": "http://"},
    ),
    "http_request": Case(
        params={"url": "{url}/x"},
        answer={"status": 200, "body": "served", "success": True, "truncated": False},
        bad={"url": "ftp://example.com"},
        config={"allow_private": True},
    ),
    "json_parse": Case(params={"text": "[1]"}, answer={"parsed": [1], "type": "list"}, bad={"text": "[1"}),
    "list_files": Case(params={}, answer={"files": ["notes.txt"], "count": 1}, config=ROOT),
    "mcp": Case(
        params={"tool": "add", "arguments": {"a": 1, "b": 2}},
        answer={"content": ["3"], "isError": False},
        bad={"tool": "ad"},
        config={"server": {"command": sys.executable, "args": ["-IS", mcp_plain_server.__file__]}},
    ),
    "min_max": Case(params={"numbers": "3, 1, 2", "action": "median"}, answer={"result": 2.0}, bad={"numbers": []}),
    "percentage": Case(
        params={"value": 200, "percent": 15, "operation": "increase"}, answer={"result": 230.0}, bad={"value": "x"}
    ),
    "query_param": Case(params={"url": URL, "key": "q"}, answer={"value": ["1", "2"]}, bad={"url": URL}),
    "random_choice": Case(
        params={"choices": ["a", "b"], "count": 2, "seed": 1}, answer={"values": ["a", "b"]}, bad={"choices": []}
    ),
    "random_int": Case(params={"min": 5, "max": 5}, answer={"value": 5}, bad={"min": 2, "max": 1}),
    "random_string": Case(
        params={"length": 4, "charset": "hex", "seed": 1}, answer={"value": "2dc4", "length": 4}, bad={"length": 0}
    ),
    "read_file": Case(
        params={"path": "notes.txt"},
        answer={"content": "buy milk\n"},
        bad={"path": "../x"},
        config=ROOT,
        bad_code="tool.auth",
    ),
    "remember_preference": Case(
        params={"rule": "Answer in French"}, answer={"queued": True, "count": 1}, bad={"rule": " "}
    ),
    "ripgrep": Case(
        params={"pattern": "milk"},
        answer={"matches": [{"file": "notes.txt", "line": 1, "content": "buy milk"}], "total": 1},
        bad={"pattern": "("},
        config=ROOT,
    ),
    "set_env": Case(
        params={"key": "APP_MODE", "value": 1},
        answer={"key": "APP_MODE", "value": "1", "set": True},
        bad={"key": "A=B", "value": "1"},
        config={"allowed": ["APP_MODE"]},
    ),
    "shell_exec": Case(
        params={"command": ["pwd"]},
        answer={"exit_code": 0, "stdout": "{root}\n", "timed_out": False},
        bad={"command": ["ls"]},
        config={"command_allowlist": ["pwd"], "cwd": "{root}"},
        bad_code="tool.auth",
    ),
    "text_transform": Case(params={"text": "a", "operation": "upper"}, answer={"result": "A"}, bad={}),
    "url_build": Case(
        params={"host": "example.com", "path": "a b", "query": {"q": "x y"}},
        answer={"url": "https://example.com/a%20b?q=x+y"},
        bad={"host": "a/b"},
    ),
    "url_parse": Case(
        params={"url": URL},
        answer={"hostname": "example.com", "port": 8443, "path": "/a/b", "username": "ada", "password": None},
        bad={"url": "http://[::1"},
    ),
    "uuid": Case(params={"count": 1}, answer={}, bad={"version": 3}),
    "write_file": Case(
        params={"path": "new/file.txt", "content": "é"},
        answer={"path": "new/file.txt", "bytes_written": 2, "mode": "w"},
        bad={"path": "../x", "content": ""},
        config=ROOT,
        bad_code="tool.auth",
    ),
}

#: Finds what rg finds of one fixed text, and says it as rg does (rg 14).
RG = """#!/bin/sh
case "$*" in *'regexp=('*) echo 'regex parse error: unclosed group' >&2; exit 2;; esac
echo '{"type":"begin","data":{"path":{"text":"./notes.txt"}}}'
echo '{"type":"match","data":{"path":{"text":"./notes.txt"},"lines":{"text":"buy milk\\\\n"},"line_number":1}}'
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    root, programs = tmp_path / "root", tmp_path / "bin"
    root.mkdir()
    programs.mkdir()
    (root / "notes.txt").write_text("buy milk\n")
    (programs / "rg").write_text(RG)
    (programs / "rg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEAM_MODE", "testing")
    with loopback_server(lambda _: Response(body=b"served")) as server:
        yield {"{root}": str(root), "{url}": server.url}


def placed(value: Any, places: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, place in places.items():
        text = text.replace(name, place)
    return json.loads(text)


async def called(name: str, params: dict[str, Any], places: dict[str, str]) -> RuntimeEvent:
    """What the tool's call ended with, in a run that completes whatever that is."""
    tool = {"id": name, "type": name, "config": CASES[name].config}
    host = Runtime.from_dict(placed(config(tools=[tool]), places))
    result, events = await recorded(host, request(f"/tool {name} {json.dumps(placed(params, places))}"))
    await host.close()
    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    return next(event for event in events if event.name in ("tool.succeeded", "tool.failed"))


def test_every_tool_has_its_case() -> None:
    assert sorted(CASES) == TOOLS


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_answers_the_model(name: str, places: dict[str, str]) -> None:
    event = await called(name, CASES[name].params, places)

    assert event.name == "tool.succeeded", event.payload
    answer = cast("dict[str, Any]", event.payload["result"])
    expected = placed(CASES[name].answer, places)
    assert {key: answer[key] for key in expected} == expected
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("name", TOOLS)
async def test_a_bad_call_is_an_error_that_the_model_can_act_on(name: str, places: dict[str, str]) -> None:
    event = await called(name, CASES[name].bad, places)

    assert event.name == "tool.failed", event.payload
    details = event.payload["error_details"]
    assert (details["code"], details["retryable"]) == (CASES[name].bad_code, False)
    assert details["hint"]
    assert details["context"]["tool_id"] == name


@pytest.mark.parametrize("name", TOOLS)
def test_each_parameter_is_described_for_the_model(name: str, tmp_path: Path) -> None:
    where = {"{root}": str(tmp_path), "{url}": "http://127.0.0.1"}
    ref = PluginRef(type=name, config=placed(CASES[name].config, where))

    described = load_plugin(Seam.TOOL, ref).describe()

    assert described["name"] == name
    assert described["description"].endswith(".")
    undescribed = [key for key, schema in described["parameters"]["properties"].items() if not schema["description"]]
    assert undescribed == []
