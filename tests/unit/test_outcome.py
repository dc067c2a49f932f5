"""How the end of a run appears in Celery's events."""

from __future__ import annotations

import pytest
from celery.exceptions import Ignore, Terminated

from runtime_core.contracts.run import ErrorDetails, StopReason
from workers.execution.outcome import RunFailed, celery_ending


def test_only_a_completed_run_is_a_success() -> None:
    assert celery_ending(StopReason.COMPLETED, None) is None


def test_a_cancelled_run_is_revoked() -> None:
    assert isinstance(celery_ending(StopReason.CANCELLED, None), Terminated)


def test_a_run_that_goes_on_elsewhere_is_closed_by_another_attempt() -> None:
    assert isinstance(celery_ending(None, None), Ignore)


@pytest.mark.parametrize(
    "status", [status for status in StopReason if status not in (StopReason.COMPLETED, StopReason.CANCELLED)]
)
def test_every_other_end_is_a_failure_with_its_code(status: StopReason) -> None:
    ending = celery_ending(status, ErrorDetails(code="tool.timeout", message="too slow"))
    assert isinstance(ending, RunFailed)
    assert ending.args == ("tool.timeout", "too slow")
    unexplained = celery_ending(status, None)
    assert isinstance(unexplained, RunFailed)
    assert unexplained.args[0] == f"run.{status}"
