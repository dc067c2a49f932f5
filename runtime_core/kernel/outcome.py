"""What an exception means for the run that it came out of. Pure, but for a look at the current task."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from runtime_core.contracts.run import ErrorDetails, RunArtifact, RunRequest, RunResult, RunUsage, StopReason
from runtime_core.errors import BudgetExhausted, LeaseLost, MaxStepsExceeded, PatternError, RunlaneError
from runtime_core.foreign_errors import as_ours
from runtime_core.wording import in_words


def is_failure(error: BaseException) -> bool:
    """Whether the run ends as failed; otherwise the exception is the host's: a cancellation or a lost lease.

    A plugin may raise anything, SystemExit too. A CancelledError that nobody asked this task for, and a GeneratorExit
    inside a running task, are the plugin's own.
    """
    if isinstance(error, LeaseLost):
        return False
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() == 0
    if isinstance(error, GeneratorExit):
        return _in_a_running_task()
    return True


def stop_reason_of(error: BaseException) -> StopReason:
    match as_ours(error) or error:
        case MaxStepsExceeded():
            return StopReason.MAX_STEPS
        case BudgetExhausted():
            return StopReason.BUDGET_EXHAUSTED
        case TimeoutError():
            return StopReason.TIMEOUT
        case _:
            return StopReason.FAILED


def error_of(error: BaseException) -> RunlaneError:
    """``error`` as one of ours; one that has no code of ours is the cause of a PatternError that tells its type."""
    if (ours := as_ours(error)) is not None:
        return ours
    wrapped = PatternError(in_words(error))
    wrapped.__cause__ = error
    return wrapped


def failed_result(
    request: RunRequest, error: BaseException, usage: RunUsage | None = None, artifacts: list[RunArtifact] | None = None
) -> RunResult:
    """The result of a run that ``error`` ended, with what it had consumed and made until then."""
    described = error_of(error).with_context(
        agent_id=request.agent_id, session_id=request.session_id, run_id=request.run_id
    )
    return RunResult(
        run_id=request.run_id,
        stop_reason=stop_reason_of(error),
        usage=usage or RunUsage(),
        artifacts=artifacts or [],
        error_details=ErrorDetails.from_exception(described),
    )


def as_run_result(value: Any) -> RunResult | None:
    """``value`` if it is a RunResult, or one made of the openagents SDK's, which has the same fields; else None."""
    if isinstance(value, RunResult) or not isinstance(value, BaseModel):
        return value if isinstance(value, RunResult) else None
    fields = type(value).model_fields.keys()
    return RunResult.model_validate(value, from_attributes=True) if fields >= RunResult.model_fields.keys() else None


def handed_off(result: RunResult, to: RunResult) -> RunResult:
    """``result`` of a run that ended with the result of its child ``to``."""
    return result.model_copy(
        update={
            "stop_reason": to.stop_reason,
            "error_details": to.error_details,
            "artifacts": [*result.artifacts, *to.artifacts],
            "metadata": {**result.metadata, "handoff_from": to.run_id},
        }
    )


def _in_a_running_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
