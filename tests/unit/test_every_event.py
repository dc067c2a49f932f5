"""Each event that Runlane declares is emitted: those of the runtime here, those of the store where it is said below."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunBudget
from runtime_core.errors import SessionError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.events.taxonomy import EVENTS, missing_keys
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.session.in_memory import InMemorySession
from tests.unit.durable_plugins import COUNTS
from tests.unit.kernel_setup import config, counted, plugin, request

__all__ = ["counted"]  # a fixture is used by its name

DURABLE = "tests.unit.durable_plugins"
EXECUTORS = "tests.unit.executor_plugins"
_HERE = "tests.unit.test_every_event"
#: Made by scripts of the store, or by the relay; tests/integration/store/test_script_events.py, and of stream.gap
#: tests/integration/test_client_streams.py.
OF_THE_STORE = {"run.queued", "run.interrupted", "run.child_submitted", "run.finished", "stream.gap"}
NOTE = [{"id": "note", "impl": f"{DURABLE}.Note"}]


class Compacting:
    """A memory and a context assembler that compact, or fail to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def assemble(self, **known: Any) -> Any:
        return SimpleNamespace(transcript=[], session_artifacts=[], metadata={})

    async def compact(self, *_: Any, **__: Any) -> None:
        if self.config.get("fails"):
            raise RuntimeError("it does not fit")


class Failing:
    """A memory that fails at everything."""

    async def inject(self, context: Any) -> None:
        raise RuntimeError("no memory")

    async def writeback(self, context: Any) -> None:
        raise RuntimeError("no memory")

    async def compact(self, context: Any) -> None:
        raise RuntimeError("no memory")


class Forgetful(InMemorySession):
    """Sessions that keep no steps."""

    async def save_step(self, session_id: str, run_id: str, number: int, delta: str) -> None:
        raise SessionError("the disk is full")


def compacting(**settings: Any) -> dict[str, Any]:
    return {"impl": f"{_HERE}.Compacting", "config": settings}


#: Agents, as changes of the usual one, each with what it is asked.
SCENES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "a tool is called": ({}, "/tool calc 6*7", {}),
    "an agent is unknown": ({}, "hello", {"agent": "nobody"}),
    "context and memory are compacted": (
        {"memory": compacting(), "context_assembler": compacting()},
        "hello",
        {},
    ),
    "context cannot be compacted": ({"context_assembler": compacting(fails=True)}, "hello", {}),
    "memory fails": ({"memory": {"impl": f"{_HERE}.Failing", "on_error": "continue"}}, "hello", {}),
    "a plan is made": ({"pattern": {"type": "plan_execute"}}, "hello", {}),
    "an artifact is made": ({"pattern": plugin("Artifacts")}, "draw", {}),
    "an output does not validate": ({"pattern": plugin("Validating")}, "go", {}),
    "the model is away": (
        {"llm": {"provider": "openai_compatible", "api_base": "http://127.0.0.1:9/v1", "model": "m"}},
        "hello",
        {},
    ),
    "cost is unknown": ({}, "hello", {"budget": RunBudget(max_cost_usd=1.0)}),
    "a tool fails": ({"tools": [{"id": "t", **plugin("FailingTool")}]}, "/tool t x", {}),
    "a tool wants other arguments": ({"tools": [{"id": "t", "impl": f"{EXECUTORS}.Retrying"}]}, "/tool t x", {}),
    "a tool is cancelled": (
        {"tools": [{"id": "t", "impl": f"{EXECUTORS}.Endless"}]},
        "/tool t x",
        {"budget": RunBudget(max_duration_ms=100)},
    ),
    "a tool streams": ({"tools": [{"id": "t", "impl": f"{EXECUTORS}.Streaming"}]}, "/tool t x", {}),
    "a tool is ready": ({"tools": [{"id": "t", **plugin("PreflightTool")}]}, "hello", {}),
    "a tool needs a person": ({"tools": [{"id": "t", "impl": f"{DURABLE}.Impatient"}]}, "/tool t big", {}),
    "tools are called at once": (
        {"pattern": {"impl": f"{EXECUTORS}.Batch"}, "tools": [{"id": "b", "impl": f"{EXECUTORS}.Beside"}]},
        "b:1 b:2",
        {},
    ),
    "a tool works in the background": (
        {"pattern": {"impl": f"{EXECUTORS}.Background"}, "tools": [{"id": "work", "impl": f"{EXECUTORS}.Worker"}]},
        "go",
        {},
    ),
    "a run resumes": (
        {"pattern": {"impl": f"{DURABLE}.Steps", "config": {"fails_at": 1}}, "tools": NOTE},
        "go",
        {"durable": True},
    ),
    "a run resumes too often": (
        {"pattern": {"impl": f"{DURABLE}.Steps", "config": {"fails_at": 1, "times": 9}}, "tools": NOTE},
        "go",
        {"durable": True, "budget": RunBudget(max_resume_attempts=1)},
    ),
    "a step cannot be kept": (
        {"pattern": {"impl": f"{DURABLE}.Steps", "config": {"steps": 1}}, "tools": NOTE, "session": "Forgetful"},
        "go",
        {"durable": True},
    ),
}


async def emitted(changes: dict[str, Any], text: str, fields: dict[str, Any]) -> list[RuntimeEvent]:
    changes = dict(changes)
    session = changes.pop("session", None)
    section = {} if session is None else {"session": {"impl": f"{_HERE}.{session}"}}
    runtime, events = Runtime.from_dict(config(**changes) | section), list[RuntimeEvent]()
    runtime.event_bus.subscribe("*", events.append)

    async def sink(_: RuntimeEvent) -> None: ...

    await runtime.execute(request(text, **fields), RunScope(sink=sink))
    await runtime.reload_agent("a")
    await runtime.close()
    return events


async def test_every_event_is_emitted_with_the_keys_that_it_declares(tmp_path: Any) -> None:
    seen: dict[str, str] = {}
    for scene, (changes, text, fields) in SCENES.items():
        COUNTS.clear()
        for event in await emitted(changes, text, fields):
            assert missing_keys(event.name, event.payload) == [], (scene, event)
            seen.setdefault(event.name, scene)
    seen |= {event.name: "a config is reloaded" for event in await _reloaded(tmp_path)}
    assert EVENTS.keys() - seen.keys() == OF_THE_STORE


async def _reloaded(tmp_path: Any) -> list[RuntimeEvent]:
    path, events = tmp_path / "agents.json", list[RuntimeEvent]()
    path.write_text(json.dumps(config()))
    runtime = Runtime.from_config(path)
    runtime.event_bus.subscribe("*", events.append)
    path.write_text(json.dumps(config(name="Another")))
    await runtime.reload()
    await runtime.close()
    return events
