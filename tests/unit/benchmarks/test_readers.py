"""Readers of what others say: a count that is wrong by a little is believed more easily than one that is absurd."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.benchmarks.harness import usage
from tests.benchmarks.harness.monitor import name_of
from tests.benchmarks.ours.sse_clients import EventCounter


def _events(pieces: Iterator[bytes]) -> int:
    counter = EventCounter()
    return sum(counter.count(piece) for piece in pieces)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 100])
def test_an_event_that_arrives_in_pieces_is_counted_once(size: int) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\n\r\n" + b"id: 1\nevent: llm.delta\ndata: {}\n\n" * 3 + b"event: run.finished\ndata: {}\n\n"
    )
    assert _events(data[start : start + size] for start in range(0, len(data), size)) == 3


def test_a_command_is_named_and_what_a_script_calls_is_not_counted() -> None:
    names = {b"5f": "script submit"}
    assert name_of(b'+1.5 [0 127.0.0.1:60866] "evalsha" "5f" "1" "key"\r\n', names) == "script submit"
    assert name_of(b'+1.5 [0 127.0.0.1:60866] "evalsha" "77" "1" "key"\r\n', names) == "script"
    assert name_of(b'+1.5 [0 127.0.0.1:60866] "get" "key"\r\n', names) == "GET"
    assert name_of(b'+1.5 [0 lua] "get" "key"\r\n', names) is None
    assert name_of(b"+OK\r\n", names) is None


def test_a_process_that_worked_shows_its_time_and_its_peak() -> None:
    me = os.getpid()
    before = usage.cpu_s([me])
    while usage.cpu_s([me]) - before < 0.03:
        pass
    usage.reset_peak(me)
    held = b"x" * 30_000_000
    assert usage.peak_bytes(me) >= usage.resident_bytes(me) - 1_000_000 > len(held)
