"""Values as they may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from runtime_core.redaction import redacted


class Model(BaseModel):
    token: str
    name: str


@dataclass
class Data:
    password: str
    name: str


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


SECRETS = ["api_key", "API-KEY", "X-Api-Key", "openaiApiKey", "Authorization", "access_token", "client.secret"]
MORE_SECRETS = ["aws_secret_access_key", "STRIPE_SECRET_KEY", "sshPrivateKey", "apikey", "Set-Cookie", "credentials"]


@pytest.mark.parametrize("key", SECRETS + MORE_SECRETS)
def test_values_of_secret_keys_are_not_shown_however_they_are_spelled(key: str) -> None:
    assert redacted({"deep": [{key: {"any": "thing"}}]}, max_length=10) == {"deep": [{key: "***"}]}


@pytest.mark.parametrize("key", ["input_tokens", "tokens", "secretary", "keys", "key", "name"])
def test_other_values_are(key: str) -> None:
    assert redacted({key: 5}, max_length=10) == {key: 5}


def test_only_the_keys_that_are_named_are_secret() -> None:
    assert redacted({"pin": 1, "token": 2}, keys=["pin"], max_length=10) == {"pin": "***", "token": 2}


def test_long_texts_are_cut() -> None:
    assert redacted(["x" * 10, "x" * 12], max_length=10) == ["x" * 10, "x" * 10 + "… (2 characters more)"]


def test_everything_becomes_what_json_can_hold() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    values = [Model(token="t", name="n"), Data("p", "n"), (1, 2), {3}, float("nan"), Unspeakable(), circle, {1: b"x"}]

    assert redacted(values, max_length=20) == [
        {"token": "***", "name": "n"},
        {"password": "***", "name": "n"},
        [1, 2],
        [3],
        "nan",
        "<Unspeakable>",
        [1, "<list>"],
        {"1": "b'x'"},
    ]
