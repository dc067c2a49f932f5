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
    taken = dict(await host.steps(request.run_id))
    if request.resume_from_checkpoint is not None:
        taken |= await _adopted(request.resume_from_checkpoint, taken, host)
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


async def _adopted(checkpoint: str, own: Mapping[int, str], host: RunHost) -> Mapping[int, str]:
    """The steps of the run that took the checkpoint, up to it. They become this run's own: its later attempts need that
    run no more, and who resumes from a step of this one finds all that lies before.
    """
    named = split_step_checkpoint_id(checkpoint)
    if named is not None:
        run_id, last = named
        if last in own:
            return {}
        steps = await host.steps(run_id)
        if last in steps:
            adopted = {number: delta for number, delta in sorted(steps.items()) if number <= last}
            for number, delta in adopted.items():
                await host.write_step(number, delta)
            return adopted
    known = [name for name in await host.checkpoints() if split_step_checkpoint_id(name) is not None]
    listed = ", ".join(known[-_LISTED:]) or "none"
    raise ConfigError(
        f"no run of the session has taken the step {checkpoint!r}",
        hint=f"{did_you_mean(checkpoint, known)}Available, newest last: {listed}",
    )
