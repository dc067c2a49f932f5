"""The mcp tool before real servers: processes on their standard streams, and one over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime_core.contracts.run import ErrorDetails
from runtime_core.errors import (
    PermanentToolError,
    PluginConfigError,
    PluginLoadError,
    ToolTimeoutError,
    ToolUnavailableError,
    ToolValidationError,
)
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.tool.mcp import McpTool
from runtime_core.plugins.builtin.tool.mcp_connection import McpConnection, McpServer
from tests.unit import kernel_setup, mcp_plain_server, mcp_server
from tests.unit.kernel_setup import config, recorded
from tests.unit.loopback_http import Received, Response, loopback_server

PLAIN = {"command": sys.executable, "args": ["-IS", mcp_plain_server.__file__]}


@asynccontextmanager
async def tool(server: dict[str, Any] = PLAIN, **settings: Any) -> AsyncGenerator[McpTool]:
    """Outside a run: its connection is its own."""
    made = McpTool({"server": server, **settings})
    try:
        yield made
    finally:
        await made.close()


async def text(made: McpTool, name: str, **arguments: Any) -> str:
    answer = await made.invoke({"tool": name, "arguments": arguments}, None)
    assert answer["isError"] is False
    return "".join(answer["content"])


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool], *, description: str) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), description


@pytest.fixture
def http_server() -> Iterator[dict[str, Any]]:
    with subprocess.Popen([sys.executable, mcp_server.__file__, "http"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield {"url": f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"}
        process.terminate()


async def test_calls_share_a_process_that_ends_when_the_tool_is_closed() -> None:
    async with tool() as made:
        first, second = await asyncio.gather(text(made, "pid"), text(made, "pid"))
        assert first == second == await text(made, "pid")

    await until(lambda: not alive(int(first)), description="the server's process has ended")


async def test_a_server_that_died_is_started_again_by_the_next_call() -> None:
    async with tool() as made:
        first = await text(made, "pid")
        under_way = asyncio.create_task(text(made, "wait"))
        assert await text(made, "add", a=1, b=1) == "2"
        os.kill(int(first), signal.SIGKILL)

        with pytest.raises(ToolUnavailableError, match="went away during 'wait'") as caught:
            await under_way
        assert caught.value.retryable

        assert await text(made, "pid") != first


async def test_a_server_that_died_between_two_calls_is_not_missed() -> None:
    connection = McpConnection(McpServer.model_validate(PLAIN), tool="mcp")
    first = await connection.call("pid", {}, timeout_s=10)
    os.kill(int(first.content[0]), signal.SIGKILL)
    await until(lambda: "closed" in repr(connection), description="the end of the server is noticed")

    second = await connection.call("pid", {}, timeout_s=10)

    assert second.content != first.content
    await connection.close()


async def test_a_call_that_takes_too_long_is_ended_and_the_connection_stays() -> None:
    async with tool(call_timeout_ms=300) as made:
        process = await text(made, "pid")

        with pytest.raises(ToolTimeoutError, match=r"longer than 0\.3 s"):
            await text(made, "wait")

        assert await text(made, "pid") == process


@pytest.mark.parametrize(
    ("most", "content", "structured", "truncated"),
    [
        (100, ["line 0", "line 1", "line 2"], True, False),
        (18, ["line 0", "line 1", "line 2"], False, True),
        (8, ["line 0", "li"], False, True),
        (6, ["line 0"], False, True),
    ],
)
async def test_a_result_is_handed_on_as_far_as_there_is_room(
    most: int, content: list[str], structured: bool, truncated: bool
) -> None:
    async with tool(max_result_chars=most) as made:
        answer = await made.invoke({"tool": "lines", "arguments": {"a": 3}}, None)

    assert answer["content"] == content
    assert ("structuredContent" in answer, answer.get("truncated", False)) == (structured, truncated)


async def test_a_cancelled_call_leaves_the_connection_to_the_others() -> None:
    async with tool() as made:
        process = await text(made, "pid")
        waiting = asyncio.create_task(text(made, "wait"))
        assert await text(made, "pid") == process

        waiting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await text(made, "pid") == process


async def test_a_connection_per_call_if_the_config_says_so() -> None:
    async with tool(connection_mode="per_call") as made:
        first, second = await text(made, "pid"), await text(made, "pid")

    assert first != second
    await until(lambda: not alive(int(second)), description="the server's process has ended")


@pytest.mark.parametrize(
    ("params", "error", "essentials"),
    [
        ({"tool": "ad"}, ToolValidationError, ["no tool 'ad'", "Did you mean 'add'?", "Its tools: add, fail"]),
        ({"tool": "wait"}, ToolValidationError, ["no tool 'wait' for this agent"]),
        ({"tool": "fail"}, PermanentToolError, ["fail: it rains"]),
        ({"arguments": {}}, ToolValidationError, ["tool: required"]),
    ],
)
async def test_what_a_server_refuses_is_said(params: Any, error: type[Exception], essentials: list[str]) -> None:
    async with tool(tools=["add", "fail", "gone"]) as made:
        with pytest.raises(error) as caught:
            await made.invoke(params, None)

    for essential in essentials:
        assert essential in str(caught.value)


async def test_the_server_sees_the_variables_of_its_config_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED_ON", "yes")
    monkeypatch.setenv("WORKERS_SECRET", "hidden")
    async with tool({**PLAIN, "env": {"GIVEN": "there"}, "env_passthrough": ["PASSED_ON"]}) as made:
        seen = [await text(made, "variable", variable=name) for name in ("GIVEN", "PASSED_ON", "WORKERS_SECRET")]

    assert seen == ["there", "yes", "(unset)"]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_server_of_the_official_package(transport: str, request: pytest.FixtureRequest) -> None:
    server: dict[str, Any] = {"command": sys.executable, "args": [mcp_server.__file__]}
    if transport == "http":
        server = request.getfixturevalue("http_server")
    async with tool(server) as made:
        assert await text(made, "add", a=20, b=22) == "42"
        with pytest.raises(PermanentToolError):
            await text(made, "fail", reason="no")
        assert await text(made, "add", a=1, b=2) == "3"


async def test_a_server_that_is_not_there_is_said(unused_tcp_port: int) -> None:
    for server in ({"command": "/bin/false"}, {"url": f"http://127.0.0.1:{unused_tcp_port}/mcp"}):
        async with tool(server) as made:
            with pytest.raises(ToolUnavailableError, match="cannot be reached"):
                await made.invoke({"tool": "add"}, None)


@pytest.mark.parametrize("transport", ["sse", "streamable_http"])
async def test_a_server_that_refuses_is_named_without_what_it_was_told(transport: str) -> None:
    def refuse(received: Received) -> Response:
        return Response(status=401, body=received.headers["authorization"].encode())

    with loopback_server(refuse) as running:
        server = {"url": f"{running.url}/mcp?api_key=s3cret-key", "headers": {"Authorization": "Bearer t0ken-t0ken"}}
        async with tool({**server, "transport": transport}) as made:
            with pytest.raises(ToolUnavailableError, match=f"MCP server {running.url}/mcp cannot be reached") as caught:
                await made.invoke({"tool": "add"}, None)

    shown = ErrorDetails.from_exception(caught.value).model_dump_json()
    assert "s3cret" not in shown
    assert "t0ken" not in shown


async def test_a_server_that_never_gets_ready_is_given_up() -> None:
    async with tool({"command": "sh", "args": ["-c", "cat >&2"], "init_timeout_ms": 200}) as made:
        with pytest.raises(ToolTimeoutError, match=r"within 0\.2 s"):
            await made.invoke({"tool": "add"}, None)


@pytest.mark.parametrize(
    ("server", "essential"),
    [
        ({}, "names no server"),
        ({"command": "no-such-program"}, "'no-such-program' is not on PATH"),
        ({"url": "example.com/mcp"}, "no URL"),
    ],
)
async def test_a_config_that_cannot_work_is_found_before_the_run(server: dict[str, Any], essential: str) -> None:
    with pytest.raises(PermanentToolError, match=essential):
        await McpTool({"server": server}).preflight(None)


@pytest.mark.parametrize(
    ("settings", "essential"),
    [
        ({"server": {"comand": "x"}}, r"config\.server\.comand: unknown field"),
        ({"server": {"command": "x", "url": "http://x"}}, "both command and url"),
        ({"prelaunch": "eager", "connection_mode": "per_call"}, "needs connection_mode 'pooled'"),
        ({"server": {"init_timeout_ms": 0}}, "init_timeout_ms"),
    ],
)
def test_a_config_that_is_wrong_is_refused(settings: dict[str, Any], essential: str) -> None:
    with pytest.raises(PluginConfigError, match=essential):
        McpTool(settings)


def test_errors_show_no_credentials() -> None:
    made = McpTool({"server": {"url": "http://ada:pw@host/mcp?key=abc", "headers": {"Authorization": "Bearer tok"}}})

    assert made.describe()["description"] == "Call a tool of the MCP server http://ada:***@host/mcp."


async def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "mcp", raising=False)
    monkeypatch.setattr(sys, "path_importer_cache", {})

    with pytest.raises(PluginLoadError, match=r"pip install 'runlane\[mcp\]'"):
        McpTool({})


def runtime(*agents: str, **settings: Any) -> Runtime:
    """Agents that have the same server."""
    tools = [{"id": "mcp", "type": "mcp", "config": {"server": PLAIN, **settings}}]
    return Runtime.from_dict({"agents": [config(agent_id=agent, tools=tools)["agents"][0] for agent in agents]})


async def process_of(host: Runtime, *, session: str = "s", agent: str = "a") -> int:
    command = f"/tool mcp {json.dumps({'tool': 'pid'})}"
    _, events = await recorded(host, kernel_setup.request(command, session=session, agent=agent))
    result = next(event.payload["result"] for event in events if event.name == "tool.succeeded")
    return int(result["content"][0])


async def test_the_agents_of_a_session_share_a_connection_and_sessions_do_not() -> None:
    host = runtime("a", "b")

    processes = [
        await process_of(host),
        await process_of(host),
        await process_of(host, agent="b"),
        await process_of(host, session="other"),
    ]
    await host.close()

    assert len(set(processes[:3])) == 1
    assert processes[3] != processes[0]
    await until(lambda: not any(map(alive, processes)), description="every server has ended")


async def test_a_released_session_has_no_connection_until_its_next_call() -> None:
    host = runtime("a")
    first = await process_of(host)

    await host.release_session("s")
    await host.release_session("s")

    await until(lambda: not alive(first), description="the server has ended")
    second = await process_of(host)
    assert second != first
    await host.close_session("s")
    await until(lambda: not alive(second), description="the server has ended")
    await host.close()


async def test_a_session_of_another_tenant_is_not_released() -> None:
    host = runtime("a")
    process = await process_of(host)

    await host.release_session("s", tenant="other")

    assert await process_of(host) == process
    await host.close()


async def test_plugins_that_are_evicted_take_their_connection_along() -> None:
    host = runtime("a", "b")
    shared = await process_of(host)
    assert await process_of(host, agent="b") == shared

    await host.reload_agent("a")
    assert await process_of(host, agent="b") == shared
    await host.plugin_cache.evict_where(lambda _: True)

    await until(lambda: not alive(shared), description="the server has ended")
    await host.close()


async def test_a_reload_that_changes_an_agent_drops_the_connections(tmp_path: Path) -> None:
    file = tmp_path / "agents.json"
    agents = runtime("a").config.model_dump(mode="json")
    file.write_text(json.dumps(agents))
    host = Runtime.from_config(file)
    first = await process_of(host)

    await host.reload()
    assert await process_of(host) == first
    agents["agents"][0]["name"] = "Changed"
    file.write_text(json.dumps(agents))
    await host.reload()

    await until(lambda: not alive(first), description="the server has ended")
    await host.close()


async def test_an_eager_server_is_described_to_the_model_from_the_start() -> None:
    host = runtime("a", prelaunch="eager", tools=["add", "pid"])
    _, events = await recorded(host, kernel_setup.request("hello"))
    described = host.plugin_cache.peek(host.plugin_cache.cached()[0][0], "a")
    await host.close()

    assert "tool.preflight" in [event.name for event in events]
    assert described is not None
    description = described.tools["mcp"].describe()["description"]
    assert "- add: Add two numbers." in description
    assert "- fail" not in description
    assert [one["name"] for one in described.tools["mcp"].get_available_tools()] == ["add", "pid"]
