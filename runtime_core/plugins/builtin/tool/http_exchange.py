"""One HTTP exchange: each hop is judged before it is made, and made to the address that was judged."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import httpx

from runtime_core.errors import (
    PermanentToolError,
    ToolAuthError,
    ToolTimeoutError,
    ToolUnavailableError,
    ToolValidationError,
)
from runtime_core.plugins.builtin.tool.egress import permitted_addresses
from runtime_core.redaction import REDACTED, redacted

#: Headers that say how a message is framed and where it goes: not the model's to choose.
_FRAMING = frozenset(
    [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_REDIRECTS = frozenset([301, 302, 303, 307, 308])
#: Characters of one response header that are shown.
_MAX_HEADER = 8192


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """Times are in seconds, sizes in bytes. ``allowed_hosts`` is None for every host."""

    connect_timeout_s: float
    timeout_s: float
    max_response_bytes: int
    max_redirects: int
    allow_private: bool
    allowed_hosts: list[str] | None


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    method: str
    url: str
    headers: httpx.Headers
    content: bytes | None


class Exchange:
    """Sends a request and follows its redirects. Raises ToolErrors; none of them shows a header or a credential."""

    def __init__(self, limits: HttpLimits, *, tool: str) -> None:
        self._limits = limits
        self._tool = tool

    async def follow(self, outgoing: Outgoing) -> dict[str, Any]:
        """The answer of the last hop, as http_request returns it."""
        self._refuse_framing(outgoing.headers)
        for _ in range(self._limits.max_redirects + 1):
            url = self._checked(outgoing.url)
            answer = await self._hop(outgoing, url)
            location = answer["headers"].get("location")
            if answer["status"] not in _REDIRECTS or not location:
                return answer
            outgoing = self._redirected(outgoing, url, answer["status"], location)
        raise PermanentToolError(
            f"there were more than {self._limits.max_redirects} redirects",
            hint="ask for another URL",
            tool_id=self._tool,
        )

    def _checked(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url.strip())
        except (httpx.InvalidURL, ValueError) as error:
            raise self._refusal("the URL cannot be read", "write it as https://host/path") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise self._refusal("the URL is not one of http or https with a host", "write it as https://host/path")
        if parsed.userinfo:
            raise self._refusal("the URL contains credentials", "send them in an Authorization header")
        allowed = self._limits.allowed_hosts
        if allowed is not None and not any(_matches(parsed.host, pattern) for pattern in allowed):
            raise ToolAuthError(
                f"the host {parsed.host!r} is not allowed",
                hint=f"allowed: {', '.join(allowed) or 'none'}",
                tool_id=self._tool,
            )
        return parsed

    async def _hop(self, outgoing: Outgoing, url: httpx.URL) -> dict[str, Any]:
        limits = self._limits
        addresses = await permitted_addresses(
            url.raw_host.decode(),
            allow_private=limits.allow_private,
            timeout_s=limits.connect_timeout_s,
            tool=self._tool,
        )
        headers = httpx.Headers([*outgoing.headers.items(), ("Host", url.netloc.decode())], encoding="utf-8")
        timeout = httpx.Timeout(limits.timeout_s, connect=limits.connect_timeout_s)
        authorities = await asyncio.to_thread(_authorities)
        async with httpx.AsyncClient(trust_env=False, verify=authorities, timeout=timeout) as client:
            for address in addresses:
                request = client.build_request(
                    outgoing.method,
                    url.copy_with(host=address),
                    headers=headers,
                    content=outgoing.content,
                    extensions={"sni_hostname": url.host},
                )
                try:
                    response = await client.send(request, stream=True)
                    return await self._answer(outgoing, url, response)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    if address == addresses[-1]:
                        raise self._unreachable(url, error) from error
                except httpx.TimeoutException as error:
                    raise ToolTimeoutError(
                        f"{url.host} did not answer in time", hint="try again later", tool_id=self._tool
                    ) from error
                except httpx.LocalProtocolError as error:
                    raise self._refusal("a header is not one that HTTP knows", "correct the headers") from error
                except httpx.HTTPError as error:
                    raise self._unreachable(url, error) from error
        raise self._unreachable(url, None)

    async def _answer(self, outgoing: Outgoing, url: httpx.URL, response: httpx.Response) -> dict[str, Any]:
        try:
            body, truncated = await self._body(response)
        finally:
            await response.aclose()
        return {
            "url": str(url),
            "method": outgoing.method,
            "status": response.status_code,
            "headers": {name: value[:_MAX_HEADER] for name, value in response.headers.items()},
            "body": _decoded(body, response.charset_encoding),
            "success": response.is_success,
            "truncated": truncated,
        }

    async def _body(self, response: httpx.Response) -> tuple[bytes, bool]:
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise PermanentToolError(
                f"the response is encoded as {encoding[:40]!r}, which was not asked for",
                hint="ask for another URL",
                tool_id=self._tool,
            )
        limit = self._limits.max_response_bytes
        body = bytearray()
        chunks = response.aiter_raw()
        try:
            async for chunk in chunks if encoding == "identity" else _inflated(chunks, limit + 1):
                body += chunk
                if len(body) > limit:
                    return bytes(body[:limit]), True
        except zlib.error as error:
            raise PermanentToolError(
                "the response cannot be decompressed", hint="ask for another URL", tool_id=self._tool
            ) from error
        return bytes(body), False

    def _redirected(self, outgoing: Outgoing, url: httpx.URL, status: int, location: str) -> Outgoing:
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise PermanentToolError(
                "the redirect leads to a URL that cannot be read", hint="ask for another URL", tool_id=self._tool
            ) from error
        headers = outgoing.headers.copy()
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            for name in _credentials(headers):
                del headers[name]
        if outgoing.method != "HEAD" and (status == 303 or (status in (301, 302) and outgoing.method == "POST")):
            headers.pop("content-type", None)
            return Outgoing(method="GET", url=str(target), headers=headers, content=None)
        return replace(outgoing, url=str(target), headers=headers)

    def _refuse_framing(self, headers: httpx.Headers) -> None:
        refused = sorted(_FRAMING.intersection(headers))
        if refused:
            raise self._refusal(f"the header {refused[0]!r} is set by the tool", "leave it out")

    def _refusal(self, problem: str, hint: str) -> ToolValidationError:
        return ToolValidationError(problem, hint=hint, tool_id=self._tool)

    def _unreachable(self, url: httpx.URL, error: Exception | None) -> ToolUnavailableError:
        problem = f": {type(error).__name__}" if error else ""
        return ToolUnavailableError(
            f"{url.host} cannot be reached{problem}", hint="try again later, or another host", tool_id=self._tool
        )


@cache
def _authorities() -> ssl.SSLContext:
    """Whose certificates are believed: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's. Loading takes 20 ms."""
    return httpx.create_ssl_context()


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower().rstrip("."), pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _credentials(headers: httpx.Headers) -> list[str]:
    """Names of headers that another host must not see."""
    shown = redacted(dict(headers), max_length=1_000_000)
    return [name for name, value in shown.items() if value == REDACTED or name in ("cookie", "origin", "referer")]


async def _inflated(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Of gzip or zlib, ``max_bytes`` of each chunk at most: a small one can hold a thousand times its size."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    async for chunk in chunks:
        yield inflate.decompress(chunk, max_bytes)
        if inflate.eof:  # what a server sends behind it would be kept without a bound
            return


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")
