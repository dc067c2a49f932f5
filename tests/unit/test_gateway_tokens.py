"""Tokens: what a file of them may say, when it is read again, and what is never shown."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from producer.gateway import tokens
from producer.gateway.tokens import Scope, TokenTable, entry_of, hash_of, new_token, read_tokens
from runtime_core.errors import ConfigError, InvalidInputError
from runtime_core.suggestions import did_you_mean

SECRET = "rl_one"


def entry(secret: str = SECRET, **changes: Any) -> dict[str, Any]:
    return {"name": "web", "hash": hash_of(secret), "tenant": "acme", "scopes": ["runs:read"]} | changes


def written(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"tokens": entries}))
    return path


def test_a_token_is_found_by_its_secret_alone(tmp_path: Path) -> None:
    table = TokenTable(file=written(tmp_path / "t", entry()))
    found = table.find(SECRET)
    assert found is not None
    assert (found.name, found.tenant, found.scopes) == ("web", "acme", {Scope.RUNS_READ})
    assert table.find(found.hash) is None, "who has read the file cannot use what stands there"
    assert table.find("") is None
    assert table.find(SECRET + " ") is None


def test_the_hash_is_what_sha256sum_prints() -> None:
    assert hash_of("abc") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


def test_what_is_made_can_be_pasted_into_a_file_and_used() -> None:
    secret, token = new_token("web", "acme", frozenset({Scope.RUNS_WRITE, Scope.METRICS}))
    assert secret not in entry_of(token)
    for text in (f"tokens:\n  - {entry_of(token)}\n", f'{{"tokens": [{entry_of(token)}]}}', f"[{entry_of(token)}]"):
        assert read_tokens(text, where="here") == {hash_of(secret): token}
    assert new_token("web", "acme", frozenset())[0] != secret


def test_a_token_with_a_bad_tenant_cannot_be_made() -> None:
    with pytest.raises(InvalidInputError, match="tenant"):
        new_token("web", "a/b", frozenset())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (json.dumps([entry(), entry(name="b", hash="sha256:abc")]), r"tokens\.1\.hash"),
        (json.dumps([entry(scopes=["runs:all"])]), r"tokens\.0\.scopes.*runs:read"),
        (json.dumps([entry(tenant="a b")]), r"tokens\.0\.tenant"),
        (json.dumps([entry() | {"secret": "x"}]), r"tokens\.0\.secret"),
        (json.dumps([{"name": "web"}]), r"tokens\.0\.tenant"),
        (json.dumps([entry(), entry("other")]), "two tokens have the name 'web'"),
        (json.dumps([entry(), entry(name="b")]), "two tokens have the hash"),
        (json.dumps({"token": []}), "tokens"),
        ("just text", "here"),
        ("", "here"),
        ("{", "here"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_how_to_mend_it(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as raised:
        read_tokens(text, where="here")
    assert "here" in str(raised.value)
    assert "runlane token" in str(raised.value)


def test_a_secret_in_the_place_of_its_hash_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as raised:
        read_tokens(json.dumps([entry(hash="rl_secret_by_mistake")]), where="here")
    assert "rl_secret_by_mistake" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_or_unreadable_file_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-file"):
        TokenTable(file=tmp_path / "no-such-file")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="binary"):
        TokenTable(file=tmp_path / "binary")


def test_tokens_of_the_environment_and_of_the_file_are_both_taken(tmp_path: Path) -> None:
    table = TokenTable(file=written(tmp_path / "t", entry()), inline=json.dumps([entry("two", name="two")]))
    assert table.find(SECRET) is not None
    assert table.find("two") is not None
    assert table.configured


def test_an_empty_list_is_configured_and_lets_nobody_in() -> None:
    table = TokenTable(inline="[]")
    assert table.configured
    assert table.find(SECRET) is None
    assert not TokenTable().configured


class TestAFileThatChanges:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.0)
        return written(tmp_path / "tokens.json", entry())

    def test_a_withdrawn_token_is_refused_and_a_new_one_taken(self, file: Path) -> None:
        table = TokenTable(file=file)
        written(file, entry("two", name="two"))
        assert table.find(SECRET) is None
        assert table.find("two") is not None

    def test_replaced_by_renaming_it_is_seen_too(self, file: Path, tmp_path: Path) -> None:
        table = TokenTable(file=file)
        status = file.stat()
        other = written(tmp_path / "other", entry("rl_two"))
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.rename(file)
        assert table.find("rl_two") is not None

    def test_a_broken_one_keeps_the_old_tokens_and_says_why_once(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        table = TokenTable(file=file)
        file.write_text("[{")
        with caplog.at_level(logging.ERROR):
            assert table.find(SECRET) is not None
            assert table.find(SECRET) is not None
        assert len(caplog.records) == 1
        assert str(file) in caplog.text
        assert SECRET not in caplog.text

    def test_mended_it_is_taken_again(self, file: Path) -> None:
        table = TokenTable(file=file)
        file.unlink()
        assert table.find(SECRET) is not None
        written(file, entry("two"))
        assert table.find("two") is not None
        assert table.find(SECRET) is None


def test_a_scope_that_was_mistyped_is_named_with_the_one_that_was_meant() -> None:
    assert did_you_mean("runs:red", Scope) == "Did you mean 'runs:read'? "
