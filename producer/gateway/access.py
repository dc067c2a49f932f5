"""Who asks, and may they: bearer tokens, or, without any, a server for this machine alone."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from producer.gateway.tokens import Scope, TokenTable
from runtime_core.errors import ConfigError, Forbidden, Unauthenticated


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """``name`` is for logs."""

    name: str
    tenant: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(
                f"the token {self.name!r} lacks the scope {scope}",
                hint=f"it has: {', '.join(sorted(self.scopes)) or '(none)'}; use another token, or add the scope",
            )


class Access:
    """Without tokens every caller on this machine is the tenant ``tenant`` and may do everything.

    Pages of other hosts, which a browser here may show, are kept out then: a request must name a loopback host (else
    a foreign name could be pointed at this server) and must not come from a foreign origin.
    """

    def __init__(self, tokens: TokenTable, *, tenant: str) -> None:
        self._tokens = tokens
        self._anyone = Caller(name="anyone", tenant=tenant, scopes=frozenset(Scope))
        #: Who asks for what is open to everybody.
        self.nobody = Caller(name="nobody", tenant=tenant, scopes=frozenset())

    def caller(self, headers: Headers) -> Caller:
        """Raises Unauthenticated, Forbidden."""
        if not self._tokens.configured:
            _check_is_local(headers)
            return self._anyone
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("the request has no token", hint="send the header Authorization: Bearer <token>")
        token = self._tokens.find(secret.strip())
        if token is None:
            raise Unauthenticated("the token is not known", hint="it was mistyped or withdrawn: ask for a new one")
        return Caller(name=token.name, tenant=token.tenant, scopes=token.scopes)

    def still_allows(self, headers: Headers, caller: Caller, scope: Scope) -> bool:
        """Would a request that was let in as ``caller`` be so now?"""
        try:
            now = self.caller(headers)
        except (Unauthenticated, Forbidden):
            return False
        return now.tenant == caller.tenant and scope in now.scopes


def check_binding(host: str, *, tokens: bool) -> None:
    """Raises ConfigError unless a server on ``host`` is either protected or for this machine alone."""
    if not tokens and not _is_loopback(host):
        raise ConfigError(
            f"the gateway has no tokens: on {host} whoever reaches it could submit, read and cancel runs",
            hint="make a token with `runlane token` and give --tokens FILE, or listen on 127.0.0.1",
        )


def _check_is_local(headers: Headers) -> None:
    host = _host_name(headers.get("host", ""))
    if not _is_loopback(host):
        raise Forbidden(
            f"without tokens the gateway serves this machine alone, and not as {host[:100]!r}",
            hint="ask http://127.0.0.1:<port>, or configure tokens",
        )
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        raise Forbidden(
            f"without tokens the gateway takes no requests from pages of {origin[:100]!r}",
            hint="configure tokens for browsers elsewhere",
        )


def _host_name(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
