"""The agent of the simulated runs: acts, says so in a journal that no part of Runlane writes, and obeys its input.

Input: ``<steps> <milliseconds a step> [verb [text of a child]]``. Halfway through its steps, it obeys the verb:

``raise``, ``poison`` (kill the worker), ``stubborn`` (swallow cancellations); ``durable`` takes each step by a tool;
``ask`` calls a tool that needs a person, ``ask-soon`` one that does not wait for long; ``isolated``, ``forked`` and
``shared`` have a child do what the rest of the input says.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunArtifact
from runtime_core.errors import ToolError
from runtime_core.plugins.builtin.pattern.base import Pattern
from tests.simulator.loop import SimulatedProcess, current_process

#: Verbs of runs that have a child, and of those that go on behind what earlier attempts have kept.
DELEGATING = ("isolated", "forked", "shared")
KEEPING = ("durable", "ask", "ask-soon", *DELEGATING)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something the agent did outside, right behind its guard."""

    run: str
    session: str
    attempt: int
    step: int
    process: SimulatedProcess
    #: The tool that did it, and the id of its call.
    tool: str = ""
    call_id: str = ""


def color_of(parent: str) -> str:
    """The field of the state that a parent sets before it delegates, and its child after that."""
    return f"color of {parent}"


class Journal(Protocol):
    """Who is told."""

    def code_begins(self, effect: Effect) -> None: ...

    def effect(self, effect: Effect) -> None: ...

    def code_ends(self, effect: Effect) -> None: ...


journal: ContextVar[Journal] = ContextVar("simulated_journal")


def _effect(context: RunContext[Any], step: int = 0, **of_tool: str) -> Effect:
    process = current_process.get()
    assert process is not None
    attempt = context.scope.attempt
    return Effect(
        run=context.run_id, session=context.session_id, attempt=attempt, step=step, process=process, **of_tool
    )


class JournalingAgent(Pattern):
    """Keeps count per session in the session's state, and leaves an artifact."""

    async def execute(self) -> str:
        context = self.context
        steps, milliseconds, *verb = context.input_text.split(maxsplit=3)
        effect = _effect(context)
        journal.get().code_begins(effect)
        try:
            await self._act(effect, int(steps), int(milliseconds), *verb)
        finally:
            journal.get().code_ends(effect)
        if (parent := context.run_request.parent_run_id) is not None:
            context.state[color_of(parent)] = "the child's"
        context.state["done"] = [*context.state.get("done", []), context.run_id]
        context.artifacts.append(RunArtifact(name=context.run_id, payload={"attempt": effect.attempt}))
        if verb == ["raise"]:
            raise ValueError("as it was told")
        return context.run_id

    async def _act(self, effect: Effect, steps: int, milliseconds: int, verb: str = "", child: str = "") -> None:
        for step in range(steps):
            if step == steps // 2:
                await self._obey(verb, child)
            await self._take(replace(effect, step=step), verb)
            if verb == "stubborn":
                await _swallowing(milliseconds / 1000)
            else:
                await asyncio.sleep(milliseconds / 1000)
            await self.context.event_bus.emit("llm.delta", text=f"step {step};")

    async def _take(self, effect: Effect, verb: str) -> None:
        if verb == "durable":
            await self.call_tool("note", {"step": effect.step})
            return
        await self.context.scope.guard()
        journal.get().effect(effect)
        if verb == "poison":
            effect.process.kill()
            await asyncio.get_running_loop().create_future()

    async def _obey(self, verb: str, child: str) -> None:
        if verb in ("ask", "ask-soon"):
            try:
                await self.call_tool(verb)
            except ToolError:  # it was denied
                return
        elif verb in DELEGATING:
            router: Any = self.context.agent_router
            self.context.state[color_of(self.context.run_id)] = "the parent's"
            await router.delegate("a", child, self.context, session_isolation=verb)


class Note:
    """A durable run takes a step. It is in the session's state, too."""

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        await context.scope.guard()
        journal.get().effect(_effect(context, params["step"], tool="note"))
        taken = context.state.get(context.run_id, [])
        context.state[context.run_id] = [*taken, params["step"]]
        return f"took {params['step']}"


class Ask:
    """Needs a person, who has as long as the config says."""

    requires_approval = True

    def __init__(self, config: dict[str, Any]) -> None:
        self.approval_timeout_ms: int | None = config.get("timeout_ms")

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        await context.scope.guard()
        journal.get().effect(_effect(context, tool="ask", call_id=context.call_id or ""))
        return "allowed"


async def _swallowing(seconds: float) -> None:
    """Sleep, whatever happens: code that does not end when it is cancelled."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            continue
