"""Payloads of events as JSON: whatever a tool returns, its event says what can be said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime_core.contracts.frame import Frame, RunIds, decode_frame, encode_frame, encode_payload


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


@pytest.mark.parametrize("levels", [1, 240])
def test_a_frame_is_read_as_it_was_written_however_deep_its_payload_is(levels: int) -> None:
    ids = RunIds(run_id="r", session_id="日", agent_id="a", parent_run_id="p")
    written = Frame(
        logged=True,
        sequence=2**53,
        attempt=1,
        event="tool.succeeded",
        timestamp_ms=1,
        ids=ids,
        config_version=3,
        payload={"result": deep(levels), "number": 0.1, "text": "\u2028é"},
    )
    encoded = encode_frame(written)
    assert decode_frame(encoded) == decode_frame(encoded.decode()) == written


@pytest.mark.parametrize("data", ["", "{", "[]", "7", "{}", '{"v":2}', '{"v":1}'])
def test_what_is_no_frame_of_this_version_is_named(data: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"not a frame|version"):
        decode_frame(data)
