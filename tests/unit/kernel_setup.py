"""Configs and recorders for the kernel's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from tests.unit.durable_plugins import COUNTS

PLUGINS = "tests.unit.kernel_plugins"


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """For modules that import it: what the durable plugins count in this process begins anew with each test."""
    COUNTS.clear()
    yield
    COUNTS.clear()


def plugin(name: str, **config: Any) -> dict[str, Any]:
    return {"impl": f"{PLUGINS}.{name}", "config": config}


def config(*, agent_id: str = "a", **changes: Any) -> dict[str, Any]:
    """An agents config of one agent; ``changes`` are fields of the agent."""
    agent: dict[str, Any] = {
        "id": agent_id,
        "name": "Agent",
        "memory": {"type": "window_buffer"},
        "pattern": {"type": "react"},
        "llm": {"provider": "mock"},
        "tools": [{"id": "calc", "type": "calc"}],
    }
    return {"agents": [agent | changes]}


def runtime(**changes: Any) -> Runtime:
    return Runtime.from_dict(config(**changes))


def request(text: str = "hello", *, session: str = "s", agent: str = "a", **fields: Any) -> RunRequest:
    return RunRequest(agent_id=agent, session_id=session, input_text=text, **fields)


async def recorded(host: Runtime, run: RunRequest) -> tuple[RunResult, list[RuntimeEvent]]:
    """Execute ``run`` with a sink that keeps its events."""
    events: list[RuntimeEvent] = []

    async def sink(event: RuntimeEvent) -> None:
        events.append(event)

    return await host.execute(run, RunScope(sink=sink, attempt=2, config_version=7)), events


def names(events: list[RuntimeEvent]) -> list[str]:
    return [event.name for event in events]
