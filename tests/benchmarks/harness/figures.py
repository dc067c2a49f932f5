"""What was measured and what it is held against. Pure: numbers in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Protocol

#: What one round found: measure → system → value.
Figures = Mapping[str, Mapping[str, float]]


class Verdict(StrEnum):
    STRETCH = "stretch goal reached"
    REACHED = "reached"
    MISSED = "missed"
    #: There is a goal, and a figure that it needs was not measured.
    UNKNOWN = "not measured"
    #: Measured with small numbers, at which goals are not meant.
    QUICK = "too few to judge"
    #: A figure for the reader, without a goal.
    NONE = ""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A goal, and a harder one that is good to have."""

    goal: float
    at_least: bool
    stretch: float | None = None

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        further = "" if self.stretch is None else f" ({sign} {self.stretch:g})"
        return f"{sign} {self.goal:g}{further}"

    def judge(self, value: float) -> Verdict:
        if self.stretch is not None and self._holds(value, self.stretch):
            return Verdict.STRETCH
        return Verdict.REACHED if self._holds(value, self.goal) else Verdict.MISSED

    def _holds(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


def at_least(goal: float, stretch: float | None = None) -> Bound:
    return Bound(goal=goal, at_least=True, stretch=stretch)


def at_most(goal: float) -> Bound:
    return Bound(goal=goal, at_least=False)


class Comparison(Protocol):
    """One row of a table: a number that each round gives, or None where a figure is missing."""

    @property
    def label(self) -> str: ...
    @property
    def bound(self) -> Bound | None: ...
    def operands(self) -> Sequence[tuple[str, str]]:
        """(measure, system) of the figures that the row shows."""
        ...

    def value(self, figures: Figures) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """``ours`` divided by ``peer``, both of the same round."""

    label: str
    measure: str
    ours: str
    peer: str
    bound: Bound | None = None
    #: Measure of the peer, if it is another.
    peer_measure: str | None = None

    def operands(self) -> Sequence[tuple[str, str]]:
        return (self.measure, self.ours), (self.peer_measure or self.measure, self.peer)

    def value(self, figures: Figures) -> float | None:
        ours, peer = (find(figures, *operand) for operand in self.operands())
        return None if ours is None or not peer else ours / peer


@dataclass(frozen=True, kw_only=True)
class Single:
    """A figure that has no peer."""

    label: str
    measure: str
    ours: str
    bound: Bound | None = None

    def operands(self) -> Sequence[tuple[str, str]]:
        return ((self.measure, self.ours),)

    def value(self, figures: Figures) -> float | None:
        return find(figures, self.measure, self.ours)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The largest of several systems' figures divided by the smallest: 1 is flat."""

    label: str
    measure: str
    systems: tuple[str, ...]
    bound: Bound | None = None

    def operands(self) -> Sequence[tuple[str, str]]:
        return [(self.measure, system) for system in self.systems]

    def value(self, figures: Figures) -> float | None:
        found = [find(figures, self.measure, system) for system in self.systems]
        values = [value for value in found if value]
        return max(values) / min(values) if len(values) == len(found) else None


def find(figures: Figures, measure: str, system: str) -> float | None:
    return figures.get(measure, {}).get(system)


def values_of(rounds: Sequence[Figures], measure: str, system: str) -> list[float]:
    """The figure in each round that has it."""
    found = [find(figures, measure, system) for figures in rounds]
    return [value for value in found if value is not None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row over all rounds: the median, over rounds, of the round's number."""

    comparison: Comparison
    values: list[float] = field(default_factory=list[float])
    judged: bool = True

    @property
    def middle(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def verdict(self) -> Verdict:
        bound = self.comparison.bound
        if bound is None:
            return Verdict.NONE
        if not self.judged:
            return Verdict.QUICK
        return Verdict.UNKNOWN if self.middle is None else bound.judge(self.middle)


def outcome(comparison: Comparison, rounds: Sequence[Figures], *, judged: bool = True) -> Outcome:
    found = [comparison.value(figures) for figures in rounds]
    return Outcome(comparison=comparison, values=[value for value in found if value is not None], judged=judged)
