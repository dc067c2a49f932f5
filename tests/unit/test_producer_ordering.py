from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.ordering import StreamCursor, Verdict
from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds
from runtime_core.contracts.stream import StreamSnapshot

IDS = RunIds(run_id="r", session_id="s", agent_id="a")


def logged(sequence: int, event: str = "llm.delta") -> Frame:
    return Frame(logged=True, sequence=sequence, attempt=1, event=event, timestamp_ms=0, ids=IDS)


def unlogged(sequence: int) -> Frame:
    return Frame(logged=False, sequence=sequence, attempt=1, event="usage.updated", timestamp_ms=0, ids=IDS)


def test_the_next_frame_is_delivered_and_moves_the_cursor() -> None:
    cursor = StreamCursor(after=4)
    assert cursor.feed(logged(5)) is Verdict.DELIVER
    assert repr(cursor) == "StreamCursor(position=5, finished=False)"


def test_a_frame_behind_a_hole_does_not_move_the_cursor() -> None:
    cursor = StreamCursor(after=4)
    assert cursor.feed(logged(6)) is Verdict.HOLE
    assert cursor.position == 4


def test_an_unlogged_frame_waits_for_the_logged_ones_before_it() -> None:
    cursor = StreamCursor(after=4)
    assert cursor.feed(unlogged(5)) is Verdict.HOLE
    assert cursor.feed(logged(5)) is Verdict.DELIVER
    assert cursor.feed(unlogged(5)) is Verdict.DELIVER
    assert cursor.position == 5


def test_nothing_follows_the_terminal_frame() -> None:
    cursor = StreamCursor(after=4)
    assert cursor.feed(logged(5, TERMINAL_EVENT)) is Verdict.DELIVER
    assert cursor.finished
    assert cursor.feed(logged(6)) is Verdict.DUPLICATE
    assert cursor.feed(unlogged(5)) is Verdict.DUPLICATE


def test_what_the_log_dropped_is_announced_as_a_gap() -> None:
    cursor = StreamCursor(after=4)
    assert cursor.feed(logged(9)) is Verdict.HOLE
    gap = cursor.skip(logged(9), None)
    assert (gap.event, gap.sequence, gap.payload) == ("stream.gap", 8, {"from": 5, "to": 8, "snapshot": None})
    assert cursor.feed(logged(9)) is Verdict.DELIVER


def test_a_gap_reaches_as_far_as_its_snapshot_which_is_younger_than_the_page() -> None:
    cursor = StreamCursor(after=4)
    snapshot = StreamSnapshot(text="so far", status="running", attempt=2)
    gap = cursor.skip(logged(9), (11, snapshot))
    assert (gap.sequence, gap.attempt, gap.payload["from"], gap.payload["to"]) == (11, 2, 5, 11)
    assert gap.payload["snapshot"]["text"] == "so far"
    assert [cursor.feed(logged(n)) for n in (9, 11, 12)] == [Verdict.DUPLICATE, Verdict.DUPLICATE, Verdict.DELIVER]


@given(
    total=st.integers(1, 30),
    after=st.integers(0, 30),
    trimmed=st.integers(0, 29),
    data=st.data(),
)
def test_a_reader_sees_a_dense_sequence_whatever_pub_sub_loses_doubles_or_reorders(
    total: int, after: int, trimmed: int, data: st.DataObject
) -> None:
    # Given a run of `total` frames whose log lost the first `trimmed`, and live messages in any order
    frames = [logged(n, TERMINAL_EVENT if n == total else "llm.delta") for n in range(1, total + 1)]
    after, trimmed = min(after, total), min(trimmed, total - 1)
    live = data.draw(st.lists(st.sampled_from([*frames, *map(unlogged, range(total + 1))]), max_size=60))
    cursor = StreamCursor(after)
    delivered: list[Frame] = []

    def read_log() -> None:
        for frame in frames[max(cursor.position, trimmed) :]:
            if cursor.feed(frame) is Verdict.HOLE:
                delivered.append(cursor.skip(frame, None))
                assert cursor.feed(frame) is Verdict.DELIVER
            delivered.append(frame)

    # When the reader follows: log at each hole, and once at the end
    for frame in live:
        match cursor.feed(frame):
            case Verdict.DELIVER:
                delivered.append(frame)
            case Verdict.HOLE:
                read_log()
            case Verdict.DUPLICATE:
                pass
    read_log()

    # Then every sequence behind the cursor came once and in order, or stands inside an announced gap
    covered: list[int] = []
    for frame in delivered:
        if frame.event == "stream.gap":
            covered.extend(range(frame.payload["from"], frame.payload["to"] + 1))
        elif frame.logged:
            covered.append(frame.sequence)
        else:
            assert frame.sequence <= max([after, *covered])
    assert covered == list(range(after + 1, total + 1))
    assert after == total or delivered[-1].terminal
