"""Payloads of events as JSON: whatever a tool returns, its event says what can be said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime_core.contracts.frame import encode_payload


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no name")


def within_itself() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return loop


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({1, 2}, [1, 2]),
        (float("nan"), None),
        (b"\xff", "b'\\xff'"),
        ({"half": "\ud800"}, {"half": "?"}),
        ({"password": "\ud800"}, {"password": "?"}),
        (within_itself(), {"again": "<dict>"}),
        ({Rude(): b"\xff"}, {"<Rude>": "b'\\xff'"}),
    ],
)
def test_a_result_that_is_not_json_is_shown_as_well_as_it_can_be(result: Any, shown: Any) -> None:
    assert json.loads(encode_payload({"tool_id": "t", "result": result})) == {"tool_id": "t", "result": shown}


def test_a_result_that_is_nested_too_deeply_is_cut() -> None:
    encoded = encode_payload({"tool_id": "t", "result": deep(1000)})

    assert json.loads(encoded)["tool_id"] == "t"
    assert b"<list>" in encoded
