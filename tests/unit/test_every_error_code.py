"""Each error code is met by some test: its class is raised or named there, or its code is found where it travels."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_core import errors
from runtime_core.errors import RunlaneError
from runtime_core.events.taxonomy import EVENTS

_TESTS = Path(__file__).parents[1]
#: Bases that are never raised themselves: what is raised has a code of its own.
_ONLY_BASES = {"execution.error", "user.error", "llm.error", "runlane.error"}
ERRORS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RunlaneError)]


def _expected(tree: ast.AST) -> Iterator[str]:
    """What a test module expects: classes in ``pytest.raises(…)``, codes of classes, texts that it compares with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "raises":
            yield from (name.id for argument in node.args for name in ast.walk(argument) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Attribute) and node.attr == "code" and isinstance(node.value, ast.Name):
            yield node.value.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def expected() -> set[str]:
    found: set[str] = set()
    for path in _TESTS.rglob("test_*.py"):
        if path != Path(__file__):
            found |= set(_expected(ast.parse(path.read_text())))
    return found


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_code_is_expected_by_some_test(error: type[RunlaneError], expected: set[str]) -> None:
    if error.code not in _ONLY_BASES:
        # An event of the same name is another thing.
        met_by = {error.__name__} if error.code in EVENTS else {error.code, error.__name__}
        assert met_by & expected, f"no test meets {error.__name__} ({error.code})"


def test_codes_are_given_once() -> None:
    codes = [error.code for error in ERRORS if "code" in vars(error)]
    assert len(codes) == len(set(codes))
