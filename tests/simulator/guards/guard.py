"""What a guard is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A text that stands in its file exactly once, what takes its place, and the directed histories of which one fails
    then.
    """

    #: What it is there for.
    name: str
    file: str
    text: str
    without: str
    scenes: tuple[str, ...]
