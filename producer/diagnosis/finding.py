"""A finding: something about the fleet that a person should know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    #: Runs do not go on, or may be lost.
    ERROR = "error"
    #: Something is slow, or will be a problem.
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    #: What was looked at: redis, clock, store, workers, partitions, queues, sessions, config, environment.
    check: str
    severity: Severity
    #: What is wrong, with names and numbers.
    what: str
    #: Why that matters.
    why: str
    #: What to do, a command if there is one.
    fix: str


def error(check: str, what: str, *, why: str, fix: str) -> Finding:
    return Finding(check=check, severity=Severity.ERROR, what=what, why=why, fix=fix)


def warning(check: str, what: str, *, why: str, fix: str) -> Finding:
    return Finding(check=check, severity=Severity.WARNING, what=what, why=why, fix=fix)


def names(values: list[str], most: int = 5) -> str:
    """A list for a sentence, shortened: ``a, b and 7 more``."""
    shown = ", ".join(values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
