"""The order of a run's frames as one reader sees them: pure, no I/O.

Frames reach a reader on two ways, pub/sub (fast, may lose) and the log (slow, complete as far back as it goes). The
cursor decides for each frame whether it is next, already seen, or shows that something is missing.
"""

from __future__ import annotations

from enum import StrEnum

from runtime_core.contracts.frame import Frame
from runtime_core.contracts.stream import RunStreamChunkKind, StreamSnapshot


class Verdict(StrEnum):
    """What to do with a frame: pass it on, find out first what is missing before it, or drop it."""

    DELIVER = "deliver"
    HOLE = "hole"
    DUPLICATE = "duplicate"


class StreamCursor:
    """Where a reader of one run stands.

    1. Logged frames are delivered in the order of their sequence, each at most once.
    2. A logged sequence is skipped only by ``skip``: if the log no longer holds it, and a ``stream.gap`` frame says so.
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

    def feed(self, frame: Frame) -> Verdict:
        """Judge a frame, from pub/sub or the log, and on DELIVER move behind it."""
        if self.finished:
            return Verdict.DUPLICATE
        if not frame.logged:
            return Verdict.DELIVER if frame.sequence <= self.position else Verdict.HOLE
        if frame.sequence <= self.position:
            return Verdict.DUPLICATE
        if frame.sequence > self.position + 1:
            return Verdict.HOLE
        self.position = frame.sequence
        self.finished = frame.terminal
        return Verdict.DELIVER

    def skip(self, frame: Frame, dropped: tuple[int, StreamSnapshot] | None) -> Frame:
        """Move over what the log dropped before ``frame``, the oldest that it holds; returns the gap that says so.

        ``dropped``: what the store knows of that, asked after ``frame`` was read: it may reach further by now.
        """
        sequence, snapshot = dropped or (0, None)
        first, last = self.position + 1, max(sequence, frame.sequence - 1)
        self.position = last
        return Frame(
            logged=True,
            sequence=last,
            attempt=snapshot.attempt if snapshot else frame.attempt,
            event=RunStreamChunkKind.STREAM_GAP,
            timestamp_ms=frame.timestamp_ms,
            config_version=frame.config_version,
            ids=frame.ids,
            payload={"from": first, "to": last, "snapshot": snapshot.model_dump(mode="json") if snapshot else None},
        )
