"""The agents files that workers are started with."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.agents.no_op import NoOp
from tests.benchmarks.agents.talk import Talker


def _path(plugin: type) -> str:
    return f"{plugin.__module__}:{plugin.__qualname__}"


#: Without a model the builtin pattern answers ``Echo: <input>``: the smallest agent that has memory and a pattern.
ECHO: dict[str, Any] = {
    "agents": [{"id": "agent", "name": "Echo", "memory": {"type": "window_buffer"}, "pattern": {"type": "react"}}]
}
NO_OP: dict[str, Any] = {**ECHO, "runtime": {"impl": _path(NoOp)}}
TALKER: dict[str, Any] = {
    "agents": [
        {"id": "agent", "name": "Talker", "memory": {"type": "buffer"}, "pattern": {"impl": _path(Talker)}},
    ]
}
TOOL_LOOP: dict[str, Any] = {
    "agents": [
        {
            "id": "agent",
            "name": "Talker",
            "memory": {"type": "window_buffer"},
            "pattern": {"type": "react"},
            "llm": {"provider": "mock"},
            "tools": [{"id": "calc", "type": "calc"}],
        }
    ]
}
