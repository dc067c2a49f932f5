"""Celery's control protocol, as an operator speaks it: send a command to the workers that live, wait for their answers.

How long to wait is no guess: Redis says who lives. A worker is waited for until it answers or its heartbeat stops; one
that beats and stays silent, for as long as the caller has patience. The command is sent again each second to those that
have not answered, since pub/sub may lose it; every command may be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from producer.reports import Answer, FleetReport
from runtime_core.broker import broker_settings
from runtime_core.contracts.commands import FleetCommand
from runtime_core.errors import RunlaneError
from runtime_core.redaction import redacted_url

#: Seconds until the command is sent again to those that have not answered, and their heartbeats are looked at.
_ROUND = 1.0


class _App(Celery):
    """Celery lets CELERY_BROKER_URL of the environment win over an app's settings; what a connection is told wins."""

    url: str

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self.url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self.url, **options)


class ControlChannel:
    """``living`` says who lives: worker → its Celery node."""

    def __init__(self, url: str, living: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
        self._url = url
        self._living = living
        settings = broker_settings(url)
        self._app = _App("runlane-fleet", set_as_current=False)
        self._app.url = settings["broker_url"]
        self._app.conf.update(settings)
        # kombu's reply queue belongs to one thread.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runlane control")

    async def ask(
        self,
        command: FleetCommand,
        arguments: Mapping[str, Any],
        *,
        workers: Mapping[str, str],
        patience: float,
        progress: Callable[[FleetReport], object] = lambda _: None,
    ) -> FleetReport:
        """The answers of ``workers``: worker → its Celery node.

        ``progress`` is called whenever somebody has answered or is given up on.
        """
        waiting = dict(workers)
        report = FleetReport(answers={}, waiting=frozenset(waiting))
        deadline = time.monotonic() + patience
        while waiting:
            answers = await self._round(command, arguments, waiting)
            for worker in waiting.keys() & answers.keys():
                del waiting[worker]
            if waiting:
                living = await self._living()
                for worker in [*waiting]:
                    if worker not in living:
                        del waiting[worker]
                        answers[worker] = Answer.silent(worker, "its heartbeat has stopped: is it stopped or cut off?")
            if waiting and time.monotonic() >= deadline:
                why = f"its heart beats, but there was no answer within {patience:g} s: look at its log"
                answers |= {worker: Answer.silent(worker, why) for worker in waiting}
                waiting.clear()
            if answers:
                report = FleetReport(answers={**report.answers, **answers}, waiting=frozenset(waiting))
                progress(report)
        return report

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._app.close)
        self._thread.shutdown(wait=False)

    async def _round(
        self, command: FleetCommand, arguments: Mapping[str, Any], waiting: Mapping[str, str]
    ) -> dict[str, Answer]:
        """The answers that come within a round; those of workers that came meanwhile under a node's name, too."""

        def send() -> list[dict[str, dict[str, Any]]]:
            nodes = sorted(set(waiting.values()))
            replies: Any = self._app.control.broadcast(
                command.value,
                arguments=dict(arguments),
                destination=nodes,
                reply=True,
                timeout=_ROUND,
                limit=len(nodes),
            )
            return list(replies or ())

        loop = asyncio.get_running_loop()
        try:
            replies = await loop.run_in_executor(self._thread, send)
        except OperationalError as error:
            raise RunlaneError(
                f"the control command {command} could not be sent over Redis at {redacted_url(self._url)}: {error}",
                hint="is Redis running? Try again",
            ) from error
        answers = [Answer.of(node, reply) for item in replies for node, reply in item.items()]
        return {answer.worker: answer for answer in answers}
