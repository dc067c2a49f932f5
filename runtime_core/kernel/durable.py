"""Resuming a run: from the steps of an earlier attempt, from a checkpoint that the request names, after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.host import RunHost
from runtime_core.contracts.run import RunRequest
from runtime_core.contracts.session import split_step_checkpoint_id
from runtime_core.errors import ConfigError, LeaseLost, RunlaneError
from runtime_core.events.bus import RunEvents
from runtime_core.kernel.journal import Journal
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)

#: Milliseconds before a resumption that the error sets no time for: doubled each time, up to the second figure.
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 200, 5_000
#: Ids of checkpoints that an error lists.
_LISTED = 10


async def open_journal(request: RunRequest, host: RunHost, events: RunEvents) -> Journal:
    """The journal of an attempt, with the steps that it goes on behind.

    Raises ConfigError if there is no such checkpoint, StepError if a step cannot be read.
    """
    journal = Journal(run_id=request.run_id, host=host, events=events, durable=request.durable)
    taken: dict[int, str] = {}
    if request.resume_from_checkpoint is not None:
        taken.update(await _steps_until(request.resume_from_checkpoint, host))
    taken.update(await host.steps(request.run_id))
    journal.take(taken)
    return journal


async def execute_durably(
    journal: Journal,
    context: RunContext[Any],
    execute: Callable[[], Awaitable[Any]],
    again: Callable[[], Awaitable[None]],
) -> Any:
    """``execute``; a durable run resumes from its newest step after a retryable error, ``max_resume_attempts`` times.

    ``again`` prepares the pattern anew.
    """
    request = context.run_request
    journal.begin(context)
    if (newest := journal.newest) is not None:
        attempt_index = max(1, context.scope.attempt - 1)
        await context.event_bus.emit("run.resume_attempted", checkpoint_id=newest, attempt_index=attempt_index)
        await journal.resume(attempt_index, restore_view=request.resume_from_checkpoint is not None)
    limit = request.budget.max_resume_attempts if request.budget else 3
    resumed = 0
    while True:
        try:
            return await execute()
        except LeaseLost:
            raise
        except RunlaneError as error:
            newest = journal.newest
            if not (request.durable and error.retryable) or newest is None:
                raise
            if limit is not None and resumed >= limit:
                exhausted = {"attempt_index": resumed + 1, "error_type": type(error).__name__, "limit": limit}
                await context.event_bus.emit("run.resume_exhausted", error=error.message, **exhausted)
                raise
            resumed += 1
            logger.info("run %s resumes from %s after: %s", context.run_id, newest, error.message)
            attempted = {"checkpoint_id": newest, "attempt_index": resumed, "error_type": type(error).__name__}
            await context.event_bus.emit("run.resume_attempted", **attempted)
            await asyncio.sleep(_pause_ms(error, resumed) / 1000)
            journal.rewind()
            await again()
            await journal.resume(resumed)


def _pause_ms(error: RunlaneError, resumed: int) -> float:
    wanted: int | None = getattr(error, "retry_after_ms", None)
    return wanted if wanted is not None else min(_LONGEST_PAUSE_MS, _FIRST_PAUSE_MS * 2 ** (resumed - 1))


async def _steps_until(checkpoint: str, host: RunHost) -> Mapping[int, str]:
    """The steps of the run that took it, up to the checkpoint."""
    named = split_step_checkpoint_id(checkpoint)
    if named is not None:
        run_id, last = named
        steps = await host.steps(run_id)
        if last in steps:
            return {number: delta for number, delta in steps.items() if number <= last}
    known = await host.checkpoints()
    listed = ", ".join(known[-_LISTED:]) or "none"
    raise ConfigError(
        f"the session has no checkpoint {checkpoint!r}",
        hint=f"{did_you_mean(checkpoint, known)}Available, newest last: {listed}",
    )
