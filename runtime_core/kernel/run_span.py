"""The span of one attempt of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.tracing import Span, SpanKind, span


def run_span(request: RunRequest, scope: RunScope) -> AbstractContextManager[Span]:
    """A child of the span in which the run was submitted."""
    return span(
        f"run {request.agent_id}",
        kind=SpanKind.CONSUMER if scope.pinned else SpanKind.INTERNAL,
        parent=request,
        gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name=request.agent_id,
        runlane__run_id=request.run_id,
        runlane__session_id=request.session_id,
        runlane__tenant=scope.tenant,
        runlane__attempt=scope.attempt,
        runlane__config_version=scope.config_version,
    )


def note_end(current: Span, result: RunResult) -> None:
    """How the run ended."""
    current.note(runlane__stop_reason=result.stop_reason.value)
    if result.stop_reason is not StopReason.COMPLETED:
        details = result.error_details
        current.failed(details.code if details else f"run.{result.stop_reason}")
