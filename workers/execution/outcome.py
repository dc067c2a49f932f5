"""How the end of an attempt appears to Celery: pure."""

from __future__ import annotations

from celery.exceptions import Ignore, Terminated

from runtime_core.contracts.run import ErrorDetails, StopReason


class RunFailed(Exception):  # Flower shows it as RunFailed('tool.timeout', '…')
    """The run ended without its answer. Arguments: code, message."""


class RunCancelled(Terminated):
    """The run was cancelled; Celery's monitors show it as revoked."""


def celery_ending(status: StopReason | None, error: ErrorDetails | None) -> Exception | None:
    """What the task raises: nothing for a completed run, Ignore when another attempt will close it (status None)."""
    match status:
        case None:
            return Ignore()
        case StopReason.COMPLETED:
            return None
        case StopReason.CANCELLED:
            return RunCancelled("cancelled")
        case _:
            code = error.code if error else f"run.{status}"
            return RunFailed(code, error.message if error else f"the run ended with stop_reason {status}")
