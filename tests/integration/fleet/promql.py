"""Checks PromQL against what a worker really exports: would this expression ever find a series?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

#: Sample name → label → its values.
Exported = Mapping[str, Mapping[str, set[str]]]

#: Labels that Prometheus gives to whatever it scrapes.
_OF_THE_SCRAPE = frozenset({"instance", "job"})
#: Functions of counters: anything else makes nonsense of them.
_RATES = frozenset({"rate", "increase", "irate"})
_COUNTERS = ("_total", "_bucket", "_sum", "_count")


def exported(text: str) -> Exported:
    """The samples of a scrape in Prometheus's text format."""
    samples: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = samples.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return samples


def metrics_of(expression: str) -> set[str]:
    """The names of the series that it selects."""
    return {node.name or "" for node in _nodes(promql.parse(expression)) if isinstance(node, promql.VectorSelector)}


def check(expression: str, exports: Exported, *, shown: Iterable[str] = ()) -> list[str]:
    """What is wrong with an expression, and with the labels ``shown`` of its result; empty if nothing is.

    Variables of Grafana may stand in matchers and ranges.
    """
    try:
        tree = promql.parse(expression.replace("$__rate_interval", "5m"))
    except ValueError as error:
        return [f"it does not parse: {error}"]
    checker = _Checker(exports)
    labels = checker.labels(tree) or frozenset()
    missing = set(shown) - labels
    return [*checker.problems, *(f"its result has no label {name}" for name in sorted(missing))]


def labels_shown(text: str) -> set[str]:
    """The labels that a legend (``{{agent}}``) or an annotation (``{{ $labels.agent }}``) shows."""
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))


def _children(node: object) -> Iterator[object]:
    for name in ("expr", "vector_selector", "lhs", "rhs"):
        child = getattr(node, name, None)
        if child is not None:
            yield child
    yield from getattr(node, "args", None) or ()


def _nodes(node: object) -> Iterator[object]:
    yield node
    for child in _children(node):
        yield from _nodes(child)


class _Checker:
    """Collects ``problems``; ``labels`` is what the result of a node carries, None for a number."""

    def __init__(self, exports: Exported) -> None:
        self._exports = exports
        self.problems: list[str] = []

    def labels(self, node: object) -> frozenset[str] | None:
        match node:
            case promql.VectorSelector():
                return self._selector(node)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.Call():
                return self._call(node)
            case promql.BinaryExpr():
                return self._binary(node)
            case _:
                found = [labels for child in _children(node) if (labels := self.labels(child)) is not None]
                return found[0] if found else None

    def _selector(self, node: promql.VectorSelector) -> frozenset[str]:
        name = node.name or ""
        labels = self._exports.get(name)
        if labels is None:
            self.problems.append(f"nothing exports {name}")
            return _OF_THE_SCRAPE
        for matcher in node.matchers.matchers:
            if matcher.name in _OF_THE_SCRAPE:
                continue
            if matcher.name not in labels:
                self.problems.append(f"{name} has no label {matcher.name}")
            elif matcher.op == promql.MatchOp.Equal and matcher.value not in labels[matcher.name]:
                self.problems.append(f"{name} has no {matcher.name} {matcher.value}")
        return _OF_THE_SCRAPE | labels.keys()

    def _aggregate(self, node: promql.AggregateExpr) -> frozenset[str]:
        inner = self.labels(node.expr) or frozenset()
        if node.modifier is None:
            return inner if str(node.op) in ("topk", "bottomk") else frozenset()
        named = frozenset(node.modifier.labels)
        self._known(named, inner, f"{node.op} groups")
        return named if node.modifier.type == promql.AggModifierType.By else inner - named

    def _call(self, node: promql.Call) -> frozenset[str] | None:
        name = node.func.name
        found = [labels for argument in node.args if (labels := self.labels(argument)) is not None]
        series = [one.name or "" for one in _nodes(node) if isinstance(one, promql.VectorSelector)]
        if name in _RATES:
            self.problems += [f"{name} of {one}, no counter" for one in series if not one.endswith(_COUNTERS)]
        if name == "histogram_quantile":
            self.problems += [f"{name} of {one}, no histogram" for one in series if not one.endswith("_bucket")]
            self._known(frozenset({"le"}), found[0], name)
            return found[0] - {"le"}
        return frozenset() if name == "absent" else found[0] if found else None

    def _binary(self, node: promql.BinaryExpr) -> frozenset[str] | None:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        if str(node.op) == "or":
            return left | right
        matching = node.modifier.matching if node.modifier is not None else None
        if matching is None:
            if left != right:
                self.problems.append(f"{sorted(left)} {node.op} {sorted(right)} never match")
        elif matching.type == promql.LabelModifierType.Include:
            self._known(frozenset(matching.labels), left & right, f"{node.op} on")
        return left

    def _known(self, named: frozenset[str], labels: frozenset[str], who: str) -> None:
        self.problems += [f"{who} by {name}, which its series do not have" for name in sorted(named - labels)]
