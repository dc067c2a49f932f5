"""The agent of the simulated runs: acts, says so in a journal that no part of Runlane writes, and obeys its input.

Input: ``<steps> <milliseconds a step> [verb]``.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunArtifact
from tests.simulator.loop import SimulatedProcess, current_process


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something the agent did outside, right behind its guard."""

    run: str
    session: str
    attempt: int
    step: int
    process: SimulatedProcess


class Journal(Protocol):
    """Who is told."""

    def code_begins(self, effect: Effect) -> None: ...

    def effect(self, effect: Effect) -> None: ...

    def code_ends(self, effect: Effect) -> None: ...


journal: ContextVar[Journal] = ContextVar("simulated_journal")


class JournalingAgent:
    """A pattern plugin. It keeps count per session in the session's state, and leaves an artifact."""

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def execute(self) -> str:
        context = self.context
        steps, milliseconds, *verb = context.input_text.split()
        process = current_process.get()
        assert process is not None
        attempt = context.scope.attempt
        effect = Effect(run=context.run_id, session=context.session_id, attempt=attempt, step=0, process=process)
        journal.get().code_begins(effect)
        try:
            await self._act(effect, int(steps), int(milliseconds), verb)
        finally:
            journal.get().code_ends(effect)
        context.state["done"] = [*context.state.get("done", []), context.run_id]
        context.artifacts.append(RunArtifact(name=context.run_id, payload={"attempt": attempt}))
        if verb == ["raise"]:
            raise ValueError("as it was told")
        return context.run_id

    async def _act(self, effect: Effect, steps: int, milliseconds: int, verb: list[str]) -> None:
        context, process = self.context, effect.process
        for step in range(steps):
            await context.scope.guard()
            journal.get().effect(replace(effect, step=step))
            if verb == ["poison"]:
                process.kill()
                await asyncio.get_running_loop().create_future()
            if verb == ["stubborn"]:
                await _swallowing(milliseconds / 1000)
            else:
                await asyncio.sleep(milliseconds / 1000)
            await context.event_bus.emit("llm.delta", text=f"step {step}")


async def _swallowing(seconds: float) -> None:
    """Sleep, whatever happens: code that does not end when it is cancelled."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            continue
