"""HTTP requests that a model chooses: bounded in time and size, to public addresses unless the config says more."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolTimeoutError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.http_exchange import Exchange, HttpLimits, Outgoing


class HttpRequestConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: Seconds for a call that names no time, and the most that one may name: redirects and the body included.
    timeout: PositiveFloat = 30.0
    #: Seconds for resolving a name, and for connecting.
    connect_timeout: PositiveFloat = 10.0
    #: Bytes of the body that are returned at most, decompressed.
    max_response_bytes: PositiveInt = 1_000_000
    max_redirects: NonNegativeInt = 5
    #: Whether private, loopback, link-local and reserved addresses may be asked.
    allow_private: bool = False
    #: Names of hosts, or ``*.example.com`` for those below one; every host if unset.
    allowed_hosts: list[str] | None = None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=256)]
HeaderValue = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$", max_length=16_384)]


class HttpRequestParameters(Parameters):
    url: str = Field(min_length=1, max_length=8192, description="An http or https URL")
    method: Annotated[Literal["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"], BeforeValidator(_upper)] = Field(
        "GET", description="The method"
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict[HeaderName, HeaderValue], max_length=64, description="Request headers"
    )
    body: Any = Field(None, description="An object or list is sent as JSON, a text as it is")
    timeout: PositiveFloat | None = Field(None, description="Seconds for the whole request")


class HttpRequestTool(BuiltinTool[HttpRequestParameters]):
    """``{"url": "https://example.com"}`` → ``{url, method, status, headers, body, success, truncated}``.

    ``url`` is where the redirects ended; ``success`` says whether the status is 2xx: another one is no error of the
    tool. Proxies of the environment are not used, for they would choose the address.
    """

    name = "http_request"
    description = "Make an HTTP request and return the response."
    Parameters = HttpRequestParameters
    Config = HttpRequestConfig
    cfg: HttpRequestConfig
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            concurrency_safe=True,
            side_effects="network",
            default_timeout_ms=limit_beyond(self.cfg.timeout),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        timeout_s = min(given.timeout or self.cfg.timeout, self.cfg.timeout)
        headers, content = _content(given)
        outgoing = Outgoing(method=given.method, url=given.url, headers=headers, content=content)
        limits = HttpLimits(
            connect_timeout_s=self.cfg.connect_timeout,
            timeout_s=timeout_s,
            max_response_bytes=self.cfg.max_response_bytes,
            max_redirects=self.cfg.max_redirects,
            allow_private=self.cfg.allow_private,
            allowed_hosts=self.cfg.allowed_hosts,
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await Exchange(limits, tool=self.name).follow(outgoing)
        except TimeoutError as error:
            raise ToolTimeoutError(
                f"the request took longer than {timeout_s:g} s", hint="try again, or ask for less", tool_id=self.name
            ) from error


def _content(given: HttpRequestParameters) -> tuple[httpx.Headers, bytes | None]:
    headers = httpx.Headers(
        {"Accept-Encoding": "gzip", "User-Agent": "runlane"} | dict(given.headers), encoding="utf-8"
    )
    if given.body is None:
        return headers, None
    if isinstance(given.body, str):
        return headers, given.body.encode(errors="replace")
    headers.setdefault("Content-Type", "application/json")
    return headers, json.dumps(given.body).encode()
