"""What a URL says of its host, and on request its addresses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters, limit_beyond
from runtime_core.plugins.builtin.tool.egress import permitted_addresses
from runtime_core.plugins.builtin.tool.urls import parse_url


class HostLookupConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: Seconds for resolving the host's name.
    timeout: PositiveFloat = 5.0
    #: Whether addresses of private networks are told.
    allow_private: bool = False


class HostLookupParameters(Parameters):
    url: str = Field(min_length=1, max_length=8192, description="A URL, or a host with or without a port")
    resolve: bool = Field(False, description="Whether to look up the addresses of the host")


class HostLookupTool(BuiltinTool[HostLookupParameters]):
    """``{"url": "https://example.com:8443/x"}`` → ``{host, port, has_https, domain}``, and ``addresses`` if resolved.

    ``domain`` is the last label of the name.
    """

    name = "host_lookup"
    description = "Return the host and port of a URL, and on request the addresses of the host."
    Parameters = HostLookupParameters
    Config = HostLookupConfig
    cfg: HostLookupConfig

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(
            concurrency_safe=True,
            side_effects="network",
            default_timeout_ms=limit_beyond(self.cfg.timeout),
        )

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        parsed = parse_url(given.url if "://" in given.url else f"//{given.url.strip()}", tool=self.name)
        host = parsed.hostname
        if not host:
            raise ToolValidationError(
                f"{given.url!r} names no host", hint="write https://host/path or host:port", tool_id=self.name
            )
        answer: dict[str, Any] = {
            "host": host,
            "port": parsed.port,
            "has_https": parsed.scheme == "https",
            "domain": host.rpartition(".")[2],
        }
        if given.resolve:
            answer["addresses"] = await permitted_addresses(
                host, allow_private=self.cfg.allow_private, timeout_s=self.cfg.timeout, tool=self.name
            )
        return answer
