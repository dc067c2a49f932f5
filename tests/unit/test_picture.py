"""Looking once, and again and again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from producer.cli.picture import Grid, Picture, facts, show, watch
from runtime_core.errors import StoreUnavailable

PICTURE = Picture(
    parts=["above", Grid(headings=("name",), rows=[("a\x1b[31m",)], empty="none")],
    record={"whole": True},
    lines=[{"line": 1}, {"line": 2}],
)


class EnoughError(Exception):
    """The test has seen enough."""


async def test_a_pipe_gets_a_line_for_each_record_of_one_look(capsys: pytest.CaptureFixture[str]) -> None:
    async def take() -> Picture:
        return PICTURE

    assert await show(take, as_json=False) is PICTURE
    assert capsys.readouterr().out.splitlines() == ['{"line": 1}', '{"line": 2}']


async def test_a_terminal_gets_text_that_it_does_not_obey(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take() -> Picture:
        return Picture(parts=[*PICTURE.parts, Grid(headings=("x",), rows=[], empty="nothing there")], record={})

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    await show(take, as_json=False)
    shown = capsys.readouterr().out
    assert "above" in shown
    assert "a\\x1b[31m" in shown
    assert "nothing there" in shown


async def test_watching_goes_on_when_a_look_fails(capsys: pytest.CaptureFixture[str]) -> None:
    looks: Iterator[Picture | Exception] = iter([PICTURE, StoreUnavailable("away"), PICTURE, EnoughError()])

    async def take() -> Picture:
        one = next(looks)
        if isinstance(one, Exception):
            raise one
        return one

    with pytest.raises(EnoughError):
        await watch(take, every=0.001, as_json=True)
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first, third) == (PICTURE.record, PICTURE.record)
    assert second["error"]["message"] == "away"


async def test_watching_does_not_begin_when_the_first_look_fails() -> None:
    async def take() -> Picture:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await watch(take, every=0.001, as_json=True)


def test_facts_stand_in_two_columns_and_keep_long_values_there() -> None:
    assert facts({"a": "1", "long": "2\n3"}) == "a     1\nlong  2\n      3"
