"""Plugins for runs that the tests watch from outside: they journal to a file that no part of Runlane writes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from kombu.asynchronous import get_event_loop

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunArtifact
from workers.process import current_process

JOURNAL = "RUNLANE_TEST_JOURNAL"


def write_down(what: str, context: RunContext[Any], **more: Any) -> None:
    """One line per happening, appended with O_APPEND: lines of several processes do not mix."""
    line = {
        "what": what,
        "run": context.run_id,
        "session": context.session_id,
        "pid": os.getpid(),
        "at": time.clock_gettime(time.CLOCK_BOOTTIME),
        **more,
    }
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read_journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Journal:
    """Journals its start and end; does what the input says, ``<verb> <argument>``."""

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self._served = 0

    async def execute(self) -> Any:
        verb, _, argument = self.context.input_text.partition(" ")
        self._served += 1
        write_down("start", self.context, input=self.context.input_text)
        try:
            return await getattr(self, f"_{verb}")(argument)
        finally:
            write_down("end", self.context)

    async def _echo(self, text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def _served_here(self, _: str) -> int:
        return self._served

    async def _tag(self, seconds: str) -> str:
        """What its config says, after a while."""
        await asyncio.sleep(float(seconds or 0))
        return str(self.config.get("tag"))

    async def _wait(self, seconds: str) -> str:
        await asyncio.sleep(float(seconds))
        return "waited"

    async def _forgetful(self, seconds: str) -> str:
        """Loses a cancellation, as asyncio.wait_for of Python 3.11 can, and goes on to its next event."""
        try:
            await asyncio.sleep(float(seconds))
        except asyncio.CancelledError:
            write_down("forgot", self.context)
        await self.context.event_bus.emit("pattern.phase", phase="next")
        write_down("went on", self.context)
        return "forgot"

    async def _talk(self, what: str) -> str:
        """``<count> <rate> [<length>]``: says numbers, so many per second, each padded to that many characters."""
        count, rate, *length = what.split()
        for number in range(int(count)):
            await self.context.event_bus.emit("llm.delta", text=f"{number} ".ljust(int(length[0]) if length else 0))
            await asyncio.sleep(1 / float(rate))
        return "said"

    async def _raise(self, name: str) -> None:
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "ValueError": ValueError}[name](name)

    async def _cancel_itself(self, _: str) -> None:
        raise asyncio.CancelledError

    async def _surrogate(self, where: str) -> str:
        if where == "error":
            raise ValueError("a lone surrogate: \ud800")
        return "\ud800"

    async def _object(self, _: str) -> object:
        return threading.Lock()

    async def _stubborn(self, seconds: str) -> str:
        """Swallows every cancellation until its time is over."""
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            try:
                await asyncio.sleep(max(0.0, end - time.monotonic()))
            except asyncio.CancelledError:
                write_down("swallowed", self.context)
        return "stubborn"

    async def _die(self, attempts: str) -> str:
        """Kills its worker, the first ``attempts`` times."""
        if self.context.scope.attempt <= int(attempts):
            os.kill(os.getpid(), signal.SIGKILL)
        return f"attempt {self.context.scope.attempt}"

    async def _block(self, seconds: str) -> str:
        """Blocks the event loop of its worker, the first time."""
        if self.context.scope.attempt == 1:
            time.sleep(float(seconds))
        return f"attempt {self.context.scope.attempt}"

    async def _deafen(self, _: str) -> str:
        """Makes Celery's consumer silent, as it was seen after reconnects: the hub no longer listens to its poll."""
        process = current_process()

        def forget_poll() -> None:
            channel = process.queues._channel
            poll = channel.client.connection._sock
            channel.connection.cycle._fd_to_chan.pop(poll.fileno())
            hub = get_event_loop()
            assert hub is not None
            hub.remove(poll)

        process.pool.call_on_hub(forget_poll)
        return "deaf"

    async def _log(self, secret: str) -> str:
        logging.getLogger(__name__).warning("as asked", extra={secret: "sk-1"})
        return "logged"

    async def _artifact(self, name: str) -> str:
        self.context.artifacts.append(RunArtifact(name=name, payload={"n": 1}))
        return name


class SlowTool:
    """A sync tool: its thread cannot be cancelled."""

    name = "slow"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def describe(self) -> dict[str, Any]:
        return {
            "name": "slow",
            "description": "sleeps",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
        }

    def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        write_down("tool start", context)
        time.sleep(float(params["query"]))
        write_down("tool end", context)
        return "slept"
