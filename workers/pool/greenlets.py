"""The bridge from Celery's synchronous tracer to asyncio.

The stock tracer runs unchanged in a greenlet that an asyncio task drives. A task body inside it hands awaitables to
that driver with ``await_``: the greenlet stands still, the loop does not. Greenlet and driver share one context, so
context variables that a signal handler sets before the body are seen by the coroutines, and resets find their token.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import greenlet
from billiard.exceptions import SoftTimeLimitExceeded

from workers.pool.job import current_job

T = TypeVar("T")


class _Body(greenlet.greenlet):
    """A greenlet whose parent awaits what it switches out."""


def await_(awaitable: Awaitable[T]) -> T:
    """Await from the synchronous body of a task; only this task waits, the loop goes on.

    Raises what the awaitable raises. If the task is cancelled meanwhile, the awaitable sees CancelledError
    (``current_job().ending`` says why); when that comes out here, it is SoftTimeLimitExceeded if the cause was the
    soft time limit, else CancelledError. RuntimeError outside of a task of the asyncio pool.
    """
    body = greenlet.getcurrent()
    if not isinstance(body, _Body) or body.parent is None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError("await_() works only in the body of a task of the asyncio pool; in a coroutine use await")
    try:
        return body.parent.switch(awaitable)
    except asyncio.CancelledError:
        job = current_job()
        if job is None or not job.soft_limit_due:
            raise
        job.soft_limit_due = False
        if job.task is not None:
            # Else asyncio.timeout and TaskGroup would take later cancellations in this body for the one handled here.
            job.task.uncancel()
        raise SoftTimeLimitExceeded(job.soft_limit) from None


async def run_in_greenlet(function: Callable[[], Any]) -> Any:
    """Call the synchronous ``function`` so that it may use ``await_``; returns and raises what it does."""
    driver = greenlet.getcurrent()
    body = _Body(function, driver)
    body.gr_context = driver.gr_context
    value = body.switch()
    while not body.dead:
        try:
            outcome = await value
        except GeneratorExit:
            raise  # the loop was closed under us: nobody can switch into the body any more
        except BaseException as error:
            value = body.throw(type(error), error, error.__traceback__)
        else:
            value = body.switch(outcome)
    return value
