"""The tools of an MCP server (Model Context Protocol), behind one tool of the agent."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import PermanentToolError, PluginLoadError, ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.mcp_connection import McpConnection, McpServer, RemoteTool
from runtime_core.session_resources import SessionResources
from runtime_core.suggestions import did_you_mean

#: Characters of the server's tools in the description that goes to the model with each request.
_MAX_DESCRIPTION = 20_000


class McpConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: McpServer = Field(default_factory=McpServer)
    #: Names of the server's tools that may be called; all of them if empty.
    tools: list[str] = Field(default_factory=list[str])
    #: pooled: one connection for all agents of the session. per_call: a server process or connection for each call.
    connection_mode: Literal["pooled", "per_call"] = "pooled"
    #: Whether a run's preflight connects and lists the tools, and fails if it cannot.
    probe_on_preflight: bool = False
    #: eager: as probe_on_preflight, so that the model knows the tools from its first request on.
    prelaunch: Literal["eager", "off"] = "off"
    #: Without effect: calls do not wait for each other, and the same call twice may be meant.
    dedup_inflight: bool = True
    #: Milliseconds for one call.
    call_timeout_ms: PositiveInt = 60_000
    #: Characters of a result that are handed on at most.
    max_result_chars: PositiveInt = 1_000_000

    @model_validator(mode="after")
    def _consistent(self) -> McpConfig:
        if self.server.command and self.server.url:
            raise ValueError("server has both command and url; keep one of them")
        if self.prelaunch == "eager" and self.connection_mode != "pooled":
            raise ValueError("prelaunch 'eager' needs connection_mode 'pooled': another connection is not kept")
        return self


class McpParameters(Parameters):
    tool: str = Field(min_length=1, max_length=256, description="Name of the server's tool")
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any], description="Its arguments")


class McpTool(BuiltinTool[McpParameters]):
    """``{"tool": "add", "arguments": {"a": 1}}`` → ``{"content": ["2"], "isError": false}``.

    ``structuredContent`` is added if the server gives it, and ``truncated`` if there was too much. What the server
    calls an error is raised as a ToolError. The description names the server's tools once a connection was made.
    """

    name = "mcp"
    description = "Call a tool of an MCP server."
    Parameters = McpParameters
    Config = McpConfig
    cfg: McpConfig
    durable_idempotent = False

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        if importlib.util.find_spec("mcp") is None:
            raise PluginLoadError("the tool type 'mcp' needs the package 'mcp'", hint="pip install 'runlane[mcp]'")
        self._tools: list[RemoteTool] | None = None
        #: For callers without a session.
        self._own = SessionResources()

    def describe(self) -> dict[str, Any]:
        text = f"Call a tool of the MCP server {self.cfg.server.label}."
        if self._tools is not None:
            lines = [f"- {one.name}: {one.description} Arguments: {json.dumps(one.parameters)}" for one in self._tools]
            text = "\n".join([text, "Its tools:", *lines])
        elif self.cfg.tools:
            text += f" Its tools: {', '.join(self.cfg.tools)}."
        return {"name": self.name, "description": text[:_MAX_DESCRIPTION], "parameters": self.schema()}

    def execution_spec(self) -> ToolExecutionSpec:
        # It may open the connection and list the tools twice before it calls one.
        longest = self.cfg.server.open_timeout_s + 3 * self._timeout_s
        return ToolExecutionSpec(
            concurrency_safe=True, side_effects="unknown", default_timeout_ms=limit_beyond(longest)
        )

    async def preflight(self, context: Any) -> None:
        """Raises PermanentToolError if the config names no server, and if asked to connect, ToolError if it cannot."""
        server = self.cfg.server
        if server.url is not None:
            if urlsplit(server.url).scheme not in ("http", "https") or not urlsplit(server.url).netloc:
                raise self._refusal("server.url is no URL of http or https", "write it as https://host/mcp")
        elif not server.command:
            raise self._refusal("the config names no server", "set server.command or server.url")
        elif await asyncio.to_thread(shutil.which, server.command) is None:
            raise self._refusal(f"the program {server.command!r} is not on PATH", "install it, or give its full path")
        if self.cfg.probe_on_preflight or self.cfg.prelaunch == "eager":
            connection = self._connection(context)
            try:
                await self._list(connection)
            finally:
                await self._done_with(connection)

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        if self.cfg.tools and given.tool not in self.cfg.tools:
            raise self._unknown(given.tool, self.cfg.tools)
        connection = self._connection(context)
        try:
            known = {one.name for one in self._tools or await self._list(connection)}
            # The server may have new tools since.
            if given.tool not in known and given.tool not in (
                known := {one.name for one in await self._list(connection)}
            ):
                raise self._unknown(given.tool, sorted(known))
            answer = await connection.call(given.tool, given.arguments, timeout_s=self._timeout_s)
        finally:
            await self._done_with(connection)
        content = _bounded(answer.content, self.cfg.max_result_chars)
        if answer.is_error:
            raise PermanentToolError(
                f"{given.tool}: {' '.join(content) or 'failed'}",
                hint="correct the arguments, or use another tool",
                tool_id=self.name,
            )
        result: dict[str, Any] = {"content": content, "isError": False}
        too_large = len(json.dumps(answer.structured)) > self.cfg.max_result_chars
        if answer.structured is not None and not too_large:
            result["structuredContent"] = answer.structured
        if too_large or content != answer.content:
            result["truncated"] = True
        return result

    def get_available_tools(self) -> list[dict[str, Any]] | None:
        """The server's tools as of the last time they were listed; None before."""
        if self._tools is None:
            return None
        return [
            {"name": one.name, "description": one.description, "inputSchema": one.parameters} for one in self._tools
        ]

    async def close(self) -> None:
        await self._own.close()

    @property
    def _timeout_s(self) -> float:
        return self.cfg.call_timeout_ms / 1000

    async def _list(self, connection: McpConnection) -> list[RemoteTool]:
        listed = await connection.tools(timeout_s=self._timeout_s)
        self._tools = [one for one in listed if not self.cfg.tools or one.name in self.cfg.tools]
        return self._tools

    def _connection(self, context: Any) -> McpConnection:
        """That of the session for the same server config, or one for this call."""

        def make() -> McpConnection:
            return McpConnection(self.cfg.server, tool=self.name)

        if self.cfg.connection_mode == "per_call":
            return make()
        shared: SessionResources | None = getattr(context, "session_resources", None)
        return (self._own if shared is None else shared).get(("mcp", self.cfg.server.model_dump_json()), make)

    async def _done_with(self, connection: McpConnection) -> None:
        if self.cfg.connection_mode == "per_call":
            await connection.close()

    def _unknown(self, name: str, known: list[str]) -> ToolValidationError:
        return ToolValidationError(
            f"MCP server {self.cfg.server.label} has no tool {name!r} for this agent",
            hint=f"{did_you_mean(name, known)}Its tools: {', '.join(known) or 'none'}",
            tool_id=self.name,
        )

    def _refusal(self, problem: str, hint: str) -> PermanentToolError:
        return PermanentToolError(problem, hint=f"{hint} in the tool's config", tool_id=self.name)


def _bounded(texts: list[str], room: int) -> list[str]:
    """The first ``room`` characters of ``texts``."""
    kept: list[str] = []
    for text in texts:
        if not room:
            break
        kept.append(text[:room])
        room -= len(kept[-1])
    return kept
