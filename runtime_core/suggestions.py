"""Near matches for names that people mistype."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_match(name: str, candidates: Iterable[str], *, similarity: float = 0.6) -> str | None:
    """The candidate most like ``name``, or None when none is similar (difflib ratio below ``similarity``)."""
    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=similarity)
    return matches[0] if matches else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``"Did you mean 'x'? "`` with a trailing space, or an empty string: made to be put before other advice."""
    match = near_match(name, candidates)
    return f"Did you mean {str(match)!r}? " if match else ""
