"""Runs in a process of its own, with the openagents SDK on its path: our Runtime, their classes. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from openagents.interfaces.runtime import RunRequest as TheirRequest  # pyright: ignore[reportMissingImports]

from producer.requests import as_request
from runtime_core.contracts.run import RunRequest
from runtime_core.kernel.runtime import Runtime

_SDK = "openagents.plugins.builtin"
_OURS = "tests.compat.sdk_plugins"
_WEATHER = {"id": "weather", "impl": f"{_OURS}.Weather"}


def agent(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "memory": {"impl": f"{_OURS}.Diary"},
        "pattern": {"impl": f"{_OURS}.Asking"},
        "llm": {"provider": "mock"},
        "tools": [_WEATHER],
        **fields,
    }


#: Of the SDK's own builtins: seam of the agent → class.
BUILTINS = {
    "memory": ["memory.buffer.BufferMemory", "memory.window_buffer.WindowBufferMemory"],
    "pattern": [
        "pattern.react.ReActPattern",
        "pattern.plan_execute.PlanExecutePattern",
        "pattern.reflexion.ReflexionPattern",
    ],
    "tool_executor": [
        "tool_executor.safe.SafeToolExecutor",
        "tool_executor.concurrent_batch.ConcurrentBatchExecutor",
        "tool_executor.filesystem_aware.FilesystemAwareExecutor",
    ],
    "context_assembler": [
        "context.truncating.TruncatingContextAssembler",
        "context.sliding_window.SlidingWindowContextAssembler",
    ],
}
AGENTS = [
    agent("own"),
    agent("picky", pattern={"impl": f"{_OURS}.Picky"}),
    agent("batch", pattern={"impl": f"{_OURS}.Batching"}),
    agent("part", pattern={"impl": f"{_OURS}.Streaming"}),
    agent("band", pattern={"impl": f"{_OURS}.Band"}),
    agent("named", memory={"type": "Forgetful"}, tools=[{"id": "greet", "type": "greet"}]),
    agent("new", context_assembler={"impl": f"{_OURS}.Nothing"}),
    *(agent(path, **{seam: {"impl": f"{_SDK}.{path}"}}) for seam, paths in BUILTINS.items() for path in paths),
]
CONFIG: dict[str, Any] = {
    "agents": AGENTS,
    "runtime": {"type": "default", "config": {"tool_executor": {"impl": f"{_OURS}.NoSecrets"}}},
    "session": {"impl": f"{_SDK}.session.in_memory.InMemorySessionManager"},
    "events": {"impl": f"{_SDK}.events.async_event_bus.AsyncEventBus"},
}


async def converse(runtime: Runtime, agent_id: str, texts: list[str]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for text in texts:
        chunks = [
            chunk
            async for chunk in runtime.run_stream(TheirRequest(agent_id=agent_id, session_id=agent_id, input_text=text))
        ]
        result = chunks[-1].result
        assert result is not None
        failed = [chunk.payload["error_details"] for chunk in chunks if "error_details" in chunk.payload]
        told.append(
            {
                "kinds": [chunk.kind for chunk in chunks],
                "sequences": [chunk.sequence for chunk in chunks],
                "output": result.final_output,
                "stop": result.stop_reason,
                "error": result.error_details.model_dump() if result.error_details else None,
                "tool_errors": [(details["code"], details["retryable"]) for details in failed],
                "artifacts": [artifact.name for artifact in result.artifacts],
                "usage": result.usage.model_dump(),
            }
        )
    return told


async def main() -> None:
    texts: dict[str, list[str]] = json.loads(sys.stdin.read())
    runtime = Runtime.from_dict(CONFIG)
    told = {name: await converse(runtime, name, asked) for name, asked in texts.items()}
    history = await runtime.event_bus.get_history()
    await runtime.close()
    theirs = Runtime.from_dict({**CONFIG, "runtime": {"impl": f"{_OURS}.Answering"}})
    told["answering"] = await converse(theirs, "own", ["hello"])
    await theirs.close()
    asked: Any = TheirRequest(agent_id="own", session_id="s", input_text="hello")
    told["asked"] = [{"same": as_request(asked) == RunRequest(**asked.model_dump())}]
    sys.stdout.write(json.dumps({"told": told, "builtins": BUILTINS, "events": len(history)}))


asyncio.run(main())
