"""A Celery app of the asyncio pool and the transport alone, for workers that the tests start as real processes.

Tasks tell what they saw on the Redis list ``seen:<task id>``, one JSON value each, and wait for a push on
``go:<task id>``.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextvars import ContextVar
from typing import Any, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task, bootsteps, current_task
from celery.signals import task_prerun
from celery.worker import state
from celery.worker.control import control_command, inspect_command

from runtime_core.broker import broker_settings
from runtime_core.clock import boot_seconds
from runtime_core.store.connection import connect
from workers import transport
from workers.pool.asyncio_pool import TaskPool
from workers.pool.greenlets import await_
from workers.pool.job import Ending, Job, current_job

REDIS_URL = os.environ["POOL_APP_REDIS_URL"]
DOORBELLS = "runs.p0000"
LATE_DOORBELLS = "runs.p0001"

_set_before_the_body: ContextVar[str] = ContextVar("set_before_the_body")


class Pool(TaskPool):
    ending_grace = 0.6

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.slotless_tasks = {"accept"}
        self.on_abandoned = lambda job: self.submit(_tell("abandoned", repr(job)))


class Intake(bootsteps.StartStopStep):
    """Bounds the batches after each connect, as the real worker does."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        channel = parent.task_consumer.channel
        channel.free_slots = lambda: parent.pool.num_processes - len(state.reserved_requests)


app = Celery("pool_app", set_as_current=False)
app.conf.update(
    broker_settings(REDIS_URL),
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_default_queue=DOORBELLS,
    task_ignore_result=True,
    task_queues=[transport.ingress_queue(), *map(transport.doorbell_queue, (DOORBELLS, LATE_DOORBELLS))],
    worker_disable_prefetch=True,
    worker_pool=f"{__name__}:Pool",
    worker_send_task_events=True,
    worker_soft_shutdown_timeout=float(os.environ.get("POOL_APP_SOFT_SHUTDOWN", "0")),
)
app.conf.broker_transport_options["client_name"] = os.environ["POOL_APP_CONNECTION_NAME"]
app.conf.broker_transport_options |= json.loads(os.environ.get("POOL_APP_TRANSPORT", "{}"))


async def _tell(task_id: str, value: Any) -> None:
    async with connect(REDIS_URL) as client:
        await client.rpush(f"seen:{task_id}", json.dumps(value))


async def _go(task_id: str) -> None:
    async with connect(REDIS_URL) as client:
        await cast(Any, client.blpop([f"go:{task_id}"]))


def _task_id() -> str:
    return str(cast(Any, current_task).request.id)


def _ending() -> Ending | None:
    job = current_job()
    assert isinstance(job, Job)
    return job.ending


@task_prerun.connect
def _set_context(task_id: str, **_: Any) -> None:
    _set_before_the_body.set(task_id)


@app.task(name="whoami", bind=True)
def whoami(self: Task[Any, Any], seconds: float) -> None:
    async def seen_from_a_coroutine() -> list[str]:
        await asyncio.sleep(seconds)
        return [_task_id(), str(self.request.id), _set_before_the_body.get()]

    async def everywhere() -> list[list[str]]:
        child = asyncio.create_task(seen_from_a_coroutine())
        return [await seen_from_a_coroutine(), *await asyncio.gather(child, seen_from_a_coroutine())]

    seen = [[_task_id(), str(self.request.id), _set_before_the_body.get()], *await_(everywhere())]
    await_(_tell(self.request.id, seen))


@app.task(name="boom")
def boom() -> None:
    async def fail() -> None:
        raise ValueError("boom")

    await_(fail())


def _hold() -> str:
    async def run() -> str:
        try:
            await _tell(_task_id(), "started")
            await _go(_task_id())
        except asyncio.CancelledError:
            # Where a run's finish is written: it takes time, and must not be cut short.
            ending = _ending()
            await asyncio.sleep(0.05)
            await _tell(_task_id(), f"cancelled by {ending}")
            raise
        await _tell(_task_id(), "ended")
        return "held"

    return await_(run())


@app.task(name="hold")
def hold() -> str:
    return _hold()


@app.task(name="hold_softly", soft_time_limit=0.2)
def hold_softly() -> str:
    async def clean_up() -> None:
        # Works only if the cancellation is over for asyncio, too.
        async with asyncio.timeout(5):
            await _tell(_task_id(), "cleaned up")

    try:
        return _hold()
    except SoftTimeLimitExceeded:
        await_(clean_up())
        return "in time"


@app.task(name="hold_hard", time_limit=0.2)
def hold_hard() -> None:
    _hold()


@app.task(name="told", soft_time_limit=0.2)
def told() -> str:
    """Asks to be told of its end in place of being cancelled."""
    ended = asyncio.Event()
    job = current_job()
    assert isinstance(job, Job)
    job.on_ending = lambda _: ended.set()

    async def run() -> str:
        await ended.wait()
        await asyncio.sleep(0.05)
        await _tell(_task_id(), f"told of {_ending()}")
        return "not cut short"

    return await_(run())


@app.task(name="stubborn", time_limit=0.2)
def stubborn() -> None:
    async def run() -> None:
        released = asyncio.ensure_future(_go(_task_id()))
        while not released.done():
            try:
                await asyncio.shield(released)
            except asyncio.CancelledError:
                await _tell(_task_id(), "swallowed")
        await _tell(_task_id(), "ended")

    await_(run())


@app.task(name="exits")
def exits(where: str) -> None:
    async def leave() -> None:
        raise SystemExit(3) if where != "keyboard" else KeyboardInterrupt

    async def child() -> None:
        await asyncio.create_task(leave())

    if where == "body":
        raise SystemExit(3)
    await_(child() if where == "child" else leave())


@app.task(name="wait_without_slot")
def wait_without_slot() -> None:
    async def run() -> None:
        with _pool().without_slot():
            await _tell(_task_id(), "started")
            await _go(_task_id())

    await_(run())


@app.task(name="accept")
def accept(wait: bool = False) -> None:
    async def run() -> None:
        await _tell(_task_id(), "started")
        if wait:
            await _go(_task_id())
        await _tell(_task_id(), "accepted")

    await_(run())


_running: dict[str, Any] = {}


class RememberPool(bootsteps.StartStopStep):
    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        _running["pool"] = parent.pool


def _pool() -> Pool:
    return _running["pool"]


_steps: Any = app.steps
_steps["worker"].add(RememberPool)
_steps["consumer"].add(Intake)


@control_command(args=[("queue", str), ("cut", bool)])
def join(state: Any, queue: str, cut: bool) -> dict[str, Any]:
    state.consumer.add_task_queue(queue)
    return {"cut": cut and state.consumer.task_consumer.channel.cut_poll()}


@control_command(args=[("queue", str)])
def leave(state: Any, queue: str) -> dict[str, Any]:
    state.consumer.cancel_task_queue(queue)
    return {"cut": state.consumer.task_consumer.channel.cut_poll()}


@inspect_command()
def poll_age(state: Any) -> float:
    return boot_seconds() - state.consumer.task_consumer.channel.last_poll
