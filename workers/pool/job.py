"""One task execution in the pool, and how code inside it learns about itself.

Everything that a job starts (its coroutine, child tasks of that) runs in a context that carries the job, so that
``current_job()`` and Celery's own ``current_task`` and ``self.request`` work there too. Celery keys those by greenlet
or thread, which a thousand coroutines of one thread share; ``follow_coroutines`` makes it key them by job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery, _state
from celery.exceptions import ImproperlyConfigured
from celery.utils import threads

_current_job: ContextVar[Job | None] = ContextVar("runlane_current_job", default=None)
_thread_ident: Callable[[], Any] = threads.get_ident


class Ending(StrEnum):
    """Why the pool cancels a body."""

    #: Its soft time limit has passed; the body sees SoftTimeLimitExceeded at its ``await_`` and may go on.
    SOFT = "soft"
    #: Its hard time limit has passed; the job ends as failed.
    HARD = "hard"
    #: Celery terminates it (``revoke(terminate=True)``) or the pool stops cold.
    TERMINATE = "terminate"


@dataclass(kw_only=True, eq=False, slots=True, weakref_slot=True)
class Job:
    """A task execution. Fields that change are set by the loop thread, except ``announced``: the hub's."""

    #: Stands where other pools have a process id (``worker_pid`` in ``inspect active``).
    number: int
    body: Callable[[], Any]
    #: False: it neither waits for a free slot nor takes one.
    takes_slot: bool
    on_accepted: Callable[[int, float], Any] | None
    on_success: Callable[[Any], Any]
    on_failure: Callable[[ExceptionInfo], Any]
    on_timeout: Callable[[bool, float | None], Any]
    #: Seconds from the start of the body; None is no limit.
    soft_limit: float | None
    hard_limit: float | None

    #: Why the body is being cancelled; None while it is not. It stays set, and only grows more severe.
    ending: Ending | None = None
    #: A soft limit's cancellation is on its way to the body's ``await_``.
    soft_limit_due: bool = False
    #: Celery has told the world how this task ended; the pool adds nothing.
    announced: bool = False
    #: Its outcome is known, or it was given up on.
    ended: bool = False
    #: It did not end within the grace after a cancellation: reported as done while its asyncio task lives on.
    abandoned: bool = False
    #: What the body has set to be told that it is to end, in place of being cancelled; loop thread.
    on_ending: Callable[[Ending], object] | None = None
    task: asyncio.Task[None] | None = None
    result: Any = None
    error: ExceptionInfo | None = None

    def terminate(self, signal: int | None = None) -> None:
        """Part of Celery's interface of a pool's results. A no-op: ``TaskPool.terminate_job`` does the work."""

    def __repr__(self) -> str:
        state = "abandoned" if self.abandoned else "ended" if self.ended else self.ending or "running"
        return f"<Job {self.number} {state if self.task else 'queued'}>"


def current_job() -> Job | None:
    """The job whose code is running, also in its coroutines and their child tasks; None outside of jobs."""
    return _current_job.get()


def enter_job(job: Job) -> None:
    """Make ``job`` the current one of this context and of those copied from it."""
    _current_job.set(job)


def _ident() -> Any:
    return _current_job.get() or _thread_ident()


def follow_coroutines(app: Celery) -> None:
    """Make Celery's stacks of tasks and requests, present and future, follow jobs through coroutines.

    Raises ImproperlyConfigured if the environment has USE_FAST_LOCALS, since that ties the stacks to threads.
    """
    if threads.USE_FAST_LOCALS:
        raise ImproperlyConfigured("the asyncio pool cannot work with USE_FAST_LOCALS: unset it in the environment")
    threads.get_ident = _ident
    for stack in (_state._task_stack, *(task.request_stack for task in app.tasks.values())):
        stack.__ident_func__ = _ident
