"""The order of a run's frames as one reader sees them: pure, no I/O.

Frames reach a reader on two ways, pub/sub (fast, may lose) and the log (slow, complete as far back as it goes). The
cursor decides for each frame whether it is next, already seen, or shows that something is missing.
"""

from __future__ import annotations

from enum import StrEnum

from runtime_core.contracts.frame import Frame
from runtime_core.contracts.stream import RunStreamChunkKind


class Verdict(StrEnum):
    """What to do with a live frame: pass it on, fill from the log first, or drop it."""

    DELIVER = "deliver"
    HOLE = "hole"
    DUPLICATE = "duplicate"


class StreamCursor:
    """Where a reader of one run stands.

    1. Logged frames are delivered in the order of their sequence, each at most once.
    2. A logged sequence is skipped only if the log no longer holds it, and then a ``stream.gap`` frame says so.
    3. Nothing is delivered after the terminal frame.
    4. A frame that is not logged is delivered when every logged frame published before it was.
    """

    def __init__(self, after: int = 0) -> None:
        #: Sequence of the newest logged frame that was delivered; a reader rejoins with it.
        self.position = after
        #: The terminal frame was delivered.
        self.finished = False

    def __repr__(self) -> str:
        return f"StreamCursor(position={self.position}, finished={self.finished})"

    def feed_live(self, frame: Frame) -> Verdict:
        """Judge a frame from pub/sub and, on DELIVER, move behind it."""
        if self.finished:
            return Verdict.DUPLICATE
        if not frame.logged:
            return Verdict.DELIVER if frame.sequence <= self.position else Verdict.HOLE
        if frame.sequence <= self.position:
            return Verdict.DUPLICATE
        if frame.sequence > self.position + 1:
            return Verdict.HOLE
        self._move(frame)
        return Verdict.DELIVER

    def feed_from_log(self, frame: Frame) -> list[Frame]:
        """What to deliver for a frame read from the log: nothing, the frame, or a gap and the frame."""
        if self.finished or frame.sequence <= self.position:
            return []
        expected = self.position + 1
        self._move(frame)
        return [frame] if frame.sequence == expected else [gap(expected, frame), frame]

    def _move(self, frame: Frame) -> None:
        self.position = frame.sequence
        self.finished = frame.terminal


def gap(first: int, following: Frame) -> Frame:
    """A frame that stands for the logged frames ``first`` … ``following.sequence - 1``, which the log dropped."""
    last = following.sequence - 1
    return Frame(
        logged=True,
        sequence=last,
        attempt=following.attempt,
        event=RunStreamChunkKind.STREAM_GAP,
        timestamp_ms=following.timestamp_ms,
        config_version=following.config_version,
        ids=following.ids,
        payload={"from": first, "to": last},
    )
