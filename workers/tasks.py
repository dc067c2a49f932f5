"""The Celery tasks: ``runlane.execute`` takes a doorbell, ``runlane.submit`` submits for any Celery client."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Reject
from celery.worker.strategy import default as stock_strategy

from runtime_core.contracts.run import RunResult
from runtime_core.doorbell import EXECUTE_TASK, SUBMIT_TASK
from runtime_core.errors import QueueFull
from runtime_core.ids import ScopedRunId
from runtime_core.store.attempts import Refusal
from workers.execution.attempts import Attempt, StopCause
from workers.execution.outcome import RunCancelled, RunFailed, celery_ending
from workers.ingress import submit_request
from workers.intake import partition_of_queue
from workers.pool.greenlets import await_
from workers.pool.job import Ending, current_job
from workers.process import current_process

_CAUSE = {Ending.SOFT: StopCause.SOFT_LIMIT, Ending.HARD: StopCause.HARD_LIMIT, Ending.TERMINATE: StopCause.HANDOVER}


def doorbell_strategy(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's strategy of ``runlane.execute``: admit first, then the stock handler."""
    handler = stock_strategy(task, app, consumer)

    def on_doorbell(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> None:
        partition = partition_of_queue(message.delivery_info.get("routing_key") or "")
        if partition is None:
            ack(None, ())
            return  # not ours: a plain client sent this task by hand; only submit makes a run
        run = ScopedRunId(str(message.headers.get("id")))
        current_process().intake.receive(
            run,
            partition,
            lambda: handler(message, body, ack, reject, callbacks, **options),
        )

    return on_doorbell


@shared_task(
    name=EXECUTE_TASK,
    bind=True,
    Strategy=f"{__name__}:doorbell_strategy",
    throws=(RunFailed, RunCancelled),
    ignore_result=True,
)
def execute(self: Any, run: str) -> None:
    """Execute an admitted run, or report one that ended without an attempt."""
    process = current_process()
    attempt = process.table.get(ScopedRunId(str(self.request.id)))
    ending = _end(attempt)
    if ending is not None:
        raise ending from None


def _end(attempt: Attempt | None) -> Exception | None:
    process = current_process()
    if attempt is None or attempt.answer is None:
        return celery_ending(None, None)
    if isinstance(attempt.answer, Refusal):
        process.table.leave(attempt)
        return celery_ending(attempt.answer.announce, attempt.answer.error)
    if (job := current_job()) is not None:  # what writes the finish is not to be cut short
        job.on_ending = lambda ending: attempt.stop(_CAUSE[ending])
    result: RunResult | None = await_(process.runner.execute(attempt))
    return celery_ending(result.stop_reason, result.error_details) if result else celery_ending(None, None)


@shared_task(name=SUBMIT_TASK, bind=True, throws=(RunFailed,), ignore_result=True)
def submit(self: Any, *args: Any, **kwargs: Any) -> None:
    """``submit(request)``: accept a run from any Celery client. A refused one is a finished record and a failure.

    One that finds no room goes back to the end of the queue; delivered again, it is the same run.
    """
    try:
        # A plain Celery client that traces puts its context into the message's headers.
        carrier = {name: value for name in ("traceparent", "tracestate") if (value := self.request.get(name))}
        error = await_(submit_request(current_process().runs, str(self.request.id), args, kwargs, carrier))
    except QueueFull as full:
        raise Reject(full.message, requeue=True) from None
    if error is not None:
        raise RunFailed(error.code, error.message) from None
