"""Cursors: what a reader of a stream hands back to go on where it left.

The text is the sequence of the last chunk that it holds, ``42``; of a stream with child runs also that of each child
that it has met, ``42;<run id>=7;<run id>=3``. Run ids hold neither separator, see runtime_core/ids.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime_core.errors import InvalidInputError
from runtime_core.ids import NAME, check_name

#: Digits of a sequence: beyond them a stream ID of Redis ends, too.
_DIGITS = 18
#: What ``read_cursor`` takes, as a regular expression for those who read the OpenAPI document.
CURSOR_PATTERN = f"^[0-9]{{1,{_DIGITS}}}(;{NAME.pattern}=[0-9]{{1,{_DIGITS}}})*$"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """``own``: sequence in the run's own chunks. ``children``: run id → sequence."""

    own: int = 0
    children: Mapping[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        return ";".join([str(self.own), *(f"{run_id}={sequence}" for run_id, sequence in self.children.items())])


def read_cursor(after: int | str) -> Cursor:
    """The cursor in ``after``. Raises InvalidInputError for anything that no chunk ever had."""
    own, *others = str(after).split(";")
    children: dict[str, int] = {}
    for other in others:
        run_id, _, sequence = other.rpartition("=")
        children[check_name("run id", run_id)] = _sequence(sequence, after)
    return Cursor(own=_sequence(own, after), children=children)


def _sequence(text: str, after: int | str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidInputError(
            f"after is {str(after)[:140]!r}",
            hint="it is the cursor of the last chunk you hold (its sequence, or its SSE id), or 0",
        )
    return int(text)
