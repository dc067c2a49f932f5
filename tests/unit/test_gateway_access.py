"""Who may ask: tokens, and without any who is on this machine."""

from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers

from producer.gateway.access import Access, check_binding
from producer.gateway.tokens import Scope, TokenTable, hash_of
from runtime_core.errors import ConfigError, Forbidden, Unauthenticated

SECRET = "rl_secret"
ENTRY = {"name": "web", "hash": hash_of(SECRET), "tenant": "acme", "scopes": ["runs:read"]}


def with_tokens() -> Access:
    return Access(TokenTable(inline=json.dumps([ENTRY])), tenant="default")


def without_tokens() -> Access:
    return Access(TokenTable(), tenant="mine")


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_a_token_says_whose_tenant_it_is_and_what_it_may(kind: str) -> None:
    caller = with_tokens().caller(Headers({"authorization": f"{kind} {SECRET}", "host": "gateway.example"}))
    assert caller.tenant == "acme"
    caller.require(Scope.RUNS_READ)
    with pytest.raises(Forbidden, match="'web' lacks the scope runs:write"):
        caller.require(Scope.RUNS_WRITE)


@pytest.mark.parametrize(
    "said", ["", "Bearer", "Bearer ", "Basic d2ViOg==", SECRET, f"Bearer {SECRET}x", "Bearer \xff"]
)
def test_who_shows_no_known_token_is_refused_and_it_is_not_repeated(said: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        with_tokens().caller(Headers({"authorization": said, "host": "127.0.0.1"} if said else {"host": "127.0.0.1"}))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (ENTRY, True),
        (ENTRY | {"name": "renamed", "scopes": ["runs:read", "metrics"]}, True),
        (ENTRY | {"hash": hash_of("another")}, False),
        (ENTRY | {"tenant": "other"}, False),
        (ENTRY | {"scopes": ["metrics"]}, False),
    ],
)
def test_who_was_let_in_stays_while_the_token_says_the_same_of_tenant_and_scope(
    entry: dict[str, object], allowed: bool
) -> None:
    shown = Headers({"authorization": f"Bearer {SECRET}"})
    caller = with_tokens().caller(shown)
    now = Access(TokenTable(inline=json.dumps([entry])), tenant="default")
    assert now.still_allows(shown, caller, Scope.RUNS_READ) is allowed


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.9.9.9"])
def test_without_tokens_this_machine_may_do_everything(host: str) -> None:
    caller = without_tokens().caller(Headers({"host": host, "origin": f"http://{host}"}))
    assert caller.tenant == "mine"
    for scope in Scope:
        caller.require(scope)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "127.evil.example", "localhost.evil.example"],
)
def test_without_tokens_a_name_that_somebody_else_may_point_here_is_refused(host: str) -> None:
    with pytest.raises(Forbidden, match="this machine"):
        without_tokens().caller(Headers({"host": host}))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8080", ""])
def test_without_tokens_pages_from_elsewhere_are_refused(origin: str) -> None:
    with pytest.raises(Forbidden, match="pages"):
        without_tokens().caller(Headers({"host": "127.0.0.1:8080", "origin": origin}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.example", "127.gateway.example", ""])
def test_without_tokens_it_listens_for_this_machine_alone(host: str) -> None:
    with pytest.raises(ConfigError, match="runlane token"):
        check_binding(host, tokens=False)
    check_binding(host, tokens=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_no_tokens_are_needed(host: str) -> None:
    check_binding(host, tokens=False)
