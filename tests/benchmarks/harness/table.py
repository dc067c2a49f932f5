"""What a benchmark is made of: a table has cases, a case measures one system for one round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.harness.figures import Comparison, Outcome, outcome


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured. Quick shows that a table works; its figures are worth little."""

    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Case:
    """``measure`` starts what it needs, measures, ends what it started, and returns measure → value.

    It has the machine to itself: what it started is all that runs.
    """

    system: str
    measure: Callable[[Scale], Mapping[str, float]]
    #: One that is long, or hardly varies, takes fewer rounds than its neighbours.
    most_rounds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars: for each measure axes of its own, on them one bar for each system."""

    measures: Sequence[str]
    systems: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    title: str
    #: What a reader must know to read it.
    note: str
    #: measure → its unit.
    units: Mapping[str, str]
    cases: Sequence[Case]
    comparisons: Sequence[Comparison]
    chart: Chart | None = None
    #: The same for all of them.
    most_rounds: int | None = None


@dataclass(kw_only=True)
class Measured:
    """A table with what its rounds found."""

    table: Table
    scale: Scale = field(default_factory=Scale)
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list[dict[str, dict[str, float]]])
    #: ``<system>, round <n>`` → why there is no figure.
    failures: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0

    def outcomes(self) -> list[Outcome]:
        return [outcome(comparison, self.rounds, judged=not self.scale.quick) for comparison in self.table.comparisons]
