"""URLs taken apart and put together. Nothing is asked of the network."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from urllib.parse import ParseResult, parse_qs, quote, urlencode, urlparse

from pydantic import Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.redaction import REDACTED

_MAX_URL = 8192
#: Characters that stay as they are, beside letters and digits: % too, for a part may be encoded already.
_PATH, _QUERY = "/%:@!$&'()*+,;=~-._", "/?%:@!$&'()*+,;=~-._"


def parse_url(url: str, *, tool: str) -> ParseResult:
    """``url`` with a host and port that can be asked for. Raises ToolValidationError."""
    try:
        parsed = urlparse(url.strip())
        _ = (parsed.hostname, parsed.port)
    except ValueError as error:
        raise ToolValidationError(
            f"the URL cannot be read: {error}", hint="write it as https://host/path", tool_id=tool
        ) from error
    return parsed


class UrlParseParameters(Parameters):
    url: str = Field(min_length=1, max_length=_MAX_URL, description="The URL")


class UrlParseTool(BuiltinTool[UrlParseParameters]):
    """A URL → its scheme, netloc, hostname, port, path, params, query, fragment, username and password.

    A password is shown as ``***``: what a tool returns is kept in transcripts.
    """

    name = "url_parse"
    description = "Split a URL into its components."
    Parameters = UrlParseParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        parsed = parse_url(self.check(params).url, tool=self.name)
        netloc = parsed.netloc
        if parsed.password is not None:
            netloc = f"{parsed.username}:{REDACTED}@{netloc.rpartition('@')[2]}"
        return {
            "scheme": parsed.scheme,
            "netloc": netloc,
            "hostname": parsed.hostname,
            "port": parsed.port,
            "path": parsed.path,
            "params": parsed.params,
            "query": parsed.query,
            "fragment": parsed.fragment,
            "username": parsed.username,
            "password": None if parsed.password is None else REDACTED,
        }


class UrlBuildParameters(Parameters):
    scheme: str = Field("https", max_length=32, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*$", description="The scheme")
    host: str = Field(
        min_length=1, max_length=512, pattern=r"^[^\s/?#@\\]+$", description="The host, with :port if it has one"
    )
    path: str = Field("/", max_length=_MAX_URL, description="The path")
    query: str | dict[str, str | int | float | bool | list[str]] = Field(
        "", description="The query, as text without the ?, or as an object of names and values"
    )
    fragment: str = Field("", max_length=_MAX_URL, description="What follows the #, without it")


class UrlBuildTool(BuiltinTool[UrlBuildParameters]):
    """``{"host": "example.com", "path": "/x", "query": {"q": "a b"}}`` → ``{"url": "https://example.com/x?q=a+b"}``."""

    name = "url_build"
    description = "Build a URL from its components; what must be encoded is."
    Parameters = UrlBuildParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        path = quote(given.path, safe=_PATH)
        query = given.query
        query = quote(query, safe=_QUERY) if isinstance(query, str) else urlencode(query, doseq=True)
        url = f"{given.scheme.lower()}://{given.host}{'' if path.startswith('/') or not path else '/'}{path}"
        url += f"?{query}" if query else ""
        url += f"#{quote(given.fragment, safe=_QUERY)}" if given.fragment else ""
        parse_url(url, tool=self.name)
        return {"url": url}


class QueryAction(StrEnum):
    GET = "get"
    LIST = "list"


class QueryParamParameters(Parameters):
    url: str = Field(min_length=1, max_length=_MAX_URL, description="The URL")
    key: str | None = Field(None, max_length=_MAX_URL, description="Name of the parameter; needed for get")
    action: QueryAction = Field(QueryAction.GET, description="get: one parameter; list: all of them")


class QueryParamTool(BuiltinTool[QueryParamParameters]):
    """``{"url": "…?a=1&b=2&b=3", "key": "b"}`` → ``{"key": "b", "value": ["2", "3"]}``; list → ``{"params": {…}}``."""

    name = "query_param"
    description = "Read the parameters in the query of a URL."
    Parameters = QueryParamParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        query = parse_url(given.url, tool=self.name).query
        found = {
            name: values[0] if len(values) == 1 else values
            for name, values in parse_qs(query, keep_blank_values=True).items()
        }
        if given.action is QueryAction.LIST:
            return {"params": found}
        if not given.key:
            raise ToolValidationError(
                "action 'get' needs a key", hint="name the parameter in key, or use action 'list'", tool_id=self.name
            )
        return {"key": given.key, "value": found.get(given.key)}
