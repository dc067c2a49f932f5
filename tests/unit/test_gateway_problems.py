"""Errors over HTTP: a status for each code, when to try again, and nothing of the inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producer.gateway import problems
from producer.gateway.problems import Problem, answer, problem_of, unexpected
from runtime_core.errors import (
    QueueFull,
    RunConflict,
    RunlaneError,
    RunNotFound,
    StoreUnavailable,
    Unauthenticated,
)


def _codes() -> set[str]:
    found: set[str] = set()
    classes: list[type[RunlaneError]] = [RunlaneError]
    while classes:
        error = classes.pop()
        found.add(error.code)
        classes += error.__subclasses__()
    return found


def body(problem: Problem) -> dict[str, Any]:
    return json.loads(bytes(answer(problem).body))


def test_every_code_that_has_a_status_is_the_code_of_an_error() -> None:
    assert set(problems.STATUS_OF) <= _codes()


def test_every_error_of_a_request_has_a_status_of_the_client() -> None:
    codes = {code for code in _codes() if code.startswith(("request.", "auth.", "user."))} - {"user.error"}
    assert {code for code in codes if not 400 <= problems.STATUS_OF.get(code, 500) < 500} == set()


def test_a_problem_says_what_happened_where_and_what_to_do() -> None:
    problem = problem_of(RunNotFound("there is no run 'r'", hint="look it up", run_id="r"))
    assert body(problem) == {
        "type": "urn:runlane:run.not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no run 'r'",
        "code": "run.not_found",
        "hint": "look it up",
        "retryable": False,
        "context": {"run_id": "r"},
    }
    assert answer(problem).headers["content-type"] == "application/problem+json"
    assert problem_of(RunConflict()).status == 409


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [
        (QueueFull(retry_after_ms=1), 429, "1"),
        (QueueFull(retry_after_ms=1_000), 429, "1"),
        (QueueFull(retry_after_ms=1_001), 429, "2"),
        (QueueFull(retry_after_ms=0), 429, "1"),
        (QueueFull(), 429, "1"),
        (StoreUnavailable(), 503, "2"),
    ],
)
def test_who_may_try_again_is_told_when_in_whole_seconds_rounded_up(
    error: RunlaneError, status: int, seconds: str
) -> None:
    response = answer(problem_of(error))
    assert response.status_code == status
    assert response.headers["retry-after"] == seconds
    assert json.loads(bytes(response.body))["retryable"] is True


def test_who_is_not_known_is_told_how_to_say_who_he_is() -> None:
    response = answer(problem_of(Unauthenticated()))
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_the_unexpected_shows_a_reference_and_nothing_else() -> None:
    problem = unexpected("3f2a")
    assert (problem.status, problem.code) == (500, "error.unknown")
    assert "3f2a" in (problem.hint or "")
