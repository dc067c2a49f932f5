"""A connection to an MCP server: opened by the first call, opened again after the server was gone.

It lives in a task of its own, since the client's cancel scopes may not cross tasks; those who call are in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from runtime_core.errors import PermanentToolError, ToolTimeoutError, ToolUnavailableError
from runtime_core.redaction import REDACTED, redacted_url

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
#: Seconds for opening a connection if the config names no time: ``npx`` may have to download its server.
_OPEN_TIMEOUT_S = 60.0
#: Seconds that calls which are under way get before their connection is closed, and those for closing it.
_CLOSE_TIMEOUT_S = 5.0
#: Characters. A shorter header or variable is no secret, and to blot it out would spoil the text around it.
_SECRET_LENGTH = 8
#: Pages of a list of tools.
_MAX_PAGES = 100


class McpServer(BaseModel):
    """Either ``command``, a program that speaks over its standard streams, or ``url``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    command: str | None = None
    args: list[str] = Field(default_factory=list[str])
    #: Variables of the program beside PATH, HOME and a few like them.
    env: dict[str, str] = Field(default_factory=dict[str, str])
    #: Names of variables of this process that the program gets as well.
    env_passthrough: list[str] = Field(default_factory=list[str])
    cwd: Path | None = None
    init_timeout_ms: PositiveInt | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    #: How the server behind ``url`` speaks; if unset, ``sse`` for a path that ends with /sse.
    transport: Literal["streamable_http", "sse"] | None = None

    @property
    def label(self) -> str:
        """How errors name it: without arguments, headers and passwords."""
        return redacted_url(self.url).partition("?")[0] if self.url else self.command or "(none)"

    @property
    def open_timeout_s(self) -> float:
        return _OPEN_TIMEOUT_S if self.init_timeout_ms is None else self.init_timeout_ms / 1000

    def without_secrets(self, text: str) -> str:
        """``text`` of the client, which likes to name the URL."""
        secrets = [*self.headers.values(), *self.environment().values()]
        for secret in sorted((one for one in secrets if len(one) >= _SECRET_LENGTH), key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return text.replace(self.url, self.label) if self.url else text

    def environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in self.env_passthrough if name in os.environ} | self.env


@dataclass(frozen=True, kw_only=True)
class RemoteTool:
    """A tool of the server; ``parameters`` is its JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RemoteAnswer:
    """``content`` holds texts, and ``[image]`` and the like for what is none."""

    content: list[str]
    structured: Any
    is_error: bool


class McpConnection:
    """Any number of calls at a time. Raises ToolErrors: ToolUnavailableError if the server is not there."""

    def __init__(self, server: McpServer, *, tool: str) -> None:
        self._server = server
        self._tool = tool
        self._one_opens = asyncio.Lock()
        self._serving: _Serving | None = None

    def __repr__(self) -> str:
        open_now = self._serving is not None and not self._serving.gone
        return f"<McpConnection {self._server.label} {'open' if open_now else 'closed'}>"

    async def tools(self, *, timeout_s: float) -> list[RemoteTool]:
        async def listed(client: Any) -> list[RemoteTool]:
            found: list[RemoteTool] = []
            cursor: str | None = None
            for _ in range(_MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                found += [
                    RemoteTool(name=one.name, description=one.description or "", parameters=one.input_schema)
                    for one in page.tools
                ]
                cursor = page.next_cursor
                if not cursor:
                    break
            return found

        return await self._ask(listed, "listing its tools", timeout_s)

    async def call(self, name: str, arguments: dict[str, Any], *, timeout_s: float) -> RemoteAnswer:
        async def called(client: Any) -> RemoteAnswer:
            answer = await client.call_tool(name, arguments)
            content = [one.text if one.type == "text" else f"[{one.type}]" for one in answer.content]
            return RemoteAnswer(content=content, structured=answer.structured_content, is_error=bool(answer.is_error))

        return await self._ask(called, repr(name), timeout_s)

    async def close(self) -> None:
        """Close it; calls that are under way get some seconds to end. The next call opens it again."""
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.close()

    async def _ask(self, ask: Callable[[Any], Awaitable[_T]], what: str, timeout_s: float) -> _T:
        serving = await self._open()
        label = self._server.label
        try:
            async with asyncio.timeout(timeout_s):
                return await serving.ask(ask)
        except TimeoutError as error:
            raise ToolTimeoutError(
                f"MCP server {label}: {what} took longer than {timeout_s:g} s",
                hint="try again, ask for less, or raise call_timeout_ms in the tool's config",
                tool_id=self._tool,
            ) from error
        except _GoneError as error:
            if self._serving is serving:
                self._serving = None
                await serving.close()
            raise ToolUnavailableError(
                f"MCP server {label} went away during {what}",
                hint="try again: the next call connects anew",
                tool_id=self._tool,
            ) from error
        except Exception as error:
            said = _innermost(error)
            shown = self._server.without_secrets(said)
            raise PermanentToolError(
                f"MCP server {label}: {what} failed: {shown}", hint="correct the arguments", tool_id=self._tool
            ) from (error if shown == said else None)

    async def _open(self) -> _Serving:
        async with self._one_opens:
            if self._serving is not None and self._serving.gone:
                await self.close()
            if self._serving is None:
                serving = _Serving(self._server)
                timeout_s = self._server.open_timeout_s
                try:
                    async with asyncio.timeout(timeout_s):
                        await serving.open()
                except TimeoutError as error:
                    await serving.close()
                    raise ToolTimeoutError(
                        f"MCP server {self._server.label} did not get ready within {timeout_s:g} s",
                        hint="start it by hand to see why, or raise server.init_timeout_ms",
                        tool_id=self._tool,
                    ) from error
                except Exception as error:
                    await serving.close()
                    said = _innermost(error)
                    shown = self._server.without_secrets(said)
                    raise ToolUnavailableError(
                        f"MCP server {self._server.label} cannot be reached: {shown}",
                        hint="check that it is installed and runs, and the tool's server config",
                        tool_id=self._tool,
                    ) from (error if shown == said else None)  # the cause would say it all the same
                except BaseException:
                    await serving.close()
                    raise
                self._serving = serving
            return self._serving


class _GoneError(Exception):
    """The server is not there any more."""


class _Serving:
    """The connection while it is open: a task that holds it, and the client for those who ask."""

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._client: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._ended = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._asking = 0
        # With a context of its own, for it outlives the run that happens to ask first.
        self._task = asyncio.create_task(self._serve(), context=contextvars.Context())

    @property
    def gone(self) -> bool:
        return self._task.done() or self._ended.is_set()

    async def open(self) -> None:
        await asyncio.shield(self._client)

    async def ask(self, ask: Callable[[Any], Awaitable[_T]]) -> _T:
        """Raises _GoneError if the server goes away meanwhile."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        async def answered() -> _T:
            return await ask(self._client.result())

        self._asking += 1
        self._quiet.clear()
        answer = asyncio.create_task(answered())
        try:
            await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or answer.cancelled():
                raise _GoneError
            return answer.result()
        except MCPError as error:
            # A server that was started again does not know the session: it says so, or 404.
            if error.code == CONNECTION_CLOSED or self.gone or "session" in error.message.lower():
                raise _GoneError from error
            raise
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            self._asking -= 1
            if not self._asking:
                self._quiet.set()

    async def close(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    if not self.gone and self._client.done():
                        await self._quiet.wait()
        finally:
            self._leaving.set()
            if not self._client.done():
                self._task.cancel()
        await asyncio.wait([self._task], timeout=_CLOSE_TIMEOUT_S)
        self._task.cancel()

    async def _serve(self) -> None:
        from mcp import Client

        try:
            async with Client(_noticing(_transport(self._server), self._ended), cache=None) as client:
                self._client.set_result(client)
                await self._leaving.wait()
        except Exception as error:
            if self._client.done():
                logger.debug("the connection to MCP server %s ended with %r", self._server.label, error)
            else:
                self._fail(error)
        finally:
            if not self._client.done():
                self._fail(ConnectionError("the connection was closed before it was ready"))

    def _fail(self, error: Exception) -> None:
        self._client.set_exception(error)
        self._client.exception()  # whoever waited for it may be gone


@contextlib.asynccontextmanager
async def _transport(server: McpServer) -> AsyncGenerator[tuple[Any, Any]]:
    if server.url is None:
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=server.command or "", args=server.args, env=server.environment(), cwd=server.cwd
        )
        # Not sys.stderr: a worker's log may stand there, which is no file that a program could write to.
        async with stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr) as streams:
            yield streams
        return
    from mcp.shared._httpx_utils import create_mcp_http_client

    path = server.url.partition("?")[0].rstrip("/")
    if (server.transport or ("sse" if path.endswith("/sse") else "streamable_http")) == "sse":
        from mcp.client.sse import sse_client

        async with sse_client(server.url, headers=server.headers) as streams:
            yield streams
        return
    from mcp.client.streamable_http import streamable_http_client

    async with (
        create_mcp_http_client(headers=server.headers) as http,
        streamable_http_client(server.url, http_client=http) as streams,
    ):
        yield streams


@contextlib.asynccontextmanager
async def _noticing(transport: Any, ended: asyncio.Event) -> AsyncGenerator[tuple[Any, Any]]:
    """``transport``, with ``ended`` set when the server's side of it ends."""
    async with transport as (read, write):
        yield _NoticingStream(read, ended), write


class _NoticingStream:
    def __init__(self, stream: Any, ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except Exception:
            self._ended.set()
            raise

    def __aiter__(self) -> _NoticingStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except Exception:  # StopAsyncIteration too
            self._ended.set()
            raise

    async def __aenter__(self) -> _NoticingStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> Any:
        return await self._stream.__aexit__(*exception)


def _innermost(error: BaseException) -> str:
    """A task group wraps what went wrong in groups of one."""
    while isinstance(error, BaseExceptionGroup):
        inner: Sequence[BaseException] = error.exceptions
        error = inner[0]
    return str(error) or type(error).__name__
