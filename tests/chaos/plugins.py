"""The agent under test: it works for a while, journals outside Redis, and says which runs its session had before."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from runtime_core.clock import boot_seconds
from runtime_core.contracts.context import RunContext
from runtime_core.plugins.builtin.pattern.base import Pattern
from tests.chaos.journal import Line, What, write_line

#: Seconds between two side effects of a run.
EFFECT_EVERY_S = 0.2

AGENT: dict[str, Any] = {
    "id": "worker",
    "name": "Works for a while",
    "memory": {"type": "buffer"},
    "pattern": {"impl": f"{__name__}.Working"},
    "tools": [{"id": "effect", "impl": f"{__name__}.Effect"}],
}


def _note(what: What, context: RunContext[Any], step: int | None = None) -> None:
    write_line(
        Line(
            what=what,
            run=context.run_id,
            session=context.session_id,
            attempt=context.scope.attempt,
            pid=os.getpid(),
            at=boot_seconds(),
            step=step,
        )
    )


class Effect:
    """A tool whose call is visible from outside."""

    name = "effect"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "description": "journals", "parameters": {"type": "object", "properties": {}}}

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        _note(What.EFFECT, context, params.get("step"))
        return "done"


class Working(Pattern):
    """Input ``work <seconds>``, with side effects; ``idle <seconds>``, without; ``steps <number>``, a side effect each;
    or ``poison``: kills its process.

    The output names attempt and process, and the runs whose exchanges are in the session's transcript.
    """

    async def execute(self) -> dict[str, Any]:
        context = self.context
        _note(What.START, context)
        try:
            verb, _, seconds = context.input_text.partition(" ")
            match verb:
                case "poison":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "idle":
                    await asyncio.sleep(float(seconds))
                case "steps":
                    for step in range(int(seconds)):
                        await self.call_tool("effect", {"step": step})
                        await asyncio.sleep(EFFECT_EVERY_S)
                case _:
                    await self._work(float(seconds))
        except BaseException:
            _note(What.CUT, context)
            raise
        _note(What.END, context)
        before = [message["run_id"] for message in context.transcript if message.get("role") == "assistant"]
        return {"attempt": context.scope.attempt, "pid": os.getpid(), "before": before}

    async def _work(self, seconds: float) -> None:
        end = boot_seconds() + seconds
        while (left := end - boot_seconds()) > 0:
            await self.call_tool("effect")
            await asyncio.sleep(min(left, EFFECT_EVERY_S))
