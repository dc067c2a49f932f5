"""From a reading to findings: a pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from producer.diagnosis.environment import check_environment
from producer.diagnosis.finding import Finding, Severity
from producer.diagnosis.reading import Reading
from producer.diagnosis.server import check_clocks, check_server, check_store
from producer.diagnosis.work import check_partitions, check_queues, check_sessions
from producer.diagnosis.workers import check_config, check_consumption, check_workers

CHECKS: Final[Sequence[Callable[[Reading], Iterator[Finding]]]] = (
    check_server,
    check_store,
    check_clocks,
    check_workers,
    check_consumption,
    check_partitions,
    check_queues,
    check_sessions,
    check_config,
    check_environment,
)


def diagnose(reading: Reading) -> Sequence[Finding]:
    """What is wrong, errors first; empty if nothing is."""
    found = [finding for check in CHECKS for finding in check(reading)]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)
