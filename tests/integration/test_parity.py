"""A run looks the same wherever it executes: in this process, and on the fleet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import yaml

from runtime_core.contracts.run import RunBudget, RunRequest, RunResult
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.kernel.runtime import Runtime
from tests.integration.fleet.conftest import Fleet, fleet
from tests.integration.fleet.waiting_plugins import Fact
from tests.unit.kernel_setup import counted, plugin

__all__ = ["counted", "fleet"]  # fixtures are used by their names

_DURABLE = "tests.unit.durable_plugins"
_WAITING = "tests.integration.fleet.waiting_plugins"
_BASE: dict[str, Any] = {"memory": {"type": "window_buffer"}, "pattern": {"type": "react"}, "llm": {"provider": "mock"}}
AGENTS: list[dict[str, Any]] = [
    {
        **_BASE,
        "id": "assistant",
        "name": "Assistant",
        "tools": [
            {"id": "calc", "type": "calc"},
            {"id": "fail", **plugin("FailingTool")},
            {"id": "talk", "impl": f"{_DURABLE}.Talking"},
        ],
    },
    {**_BASE, "id": "artist", "name": "Artist", "pattern": plugin("Artifacts")},
    {**_BASE, "id": "failing", "name": "Failing", "pattern": plugin("Raising", raises="value")},
    {**_BASE, "id": "hasty", "name": "Hasty", "pattern": {"type": "react", "config": {"max_steps": 1}}},
    {
        **_BASE,
        "id": "durable",
        "name": "Durable",
        "pattern": {"impl": f"{_DURABLE}.Steps", "config": {"fails_at": 2}},
        "tools": [{"id": "note", "impl": f"{_DURABLE}.Note"}],
    },
    {**_BASE, "id": "careful", "name": "Careful", "tools": [{"id": "do", "impl": f"{_DURABLE}.Careful"}]},
    {
        **_BASE,
        "id": "delegating",
        "name": "Delegating",
        "pattern": {"impl": f"{_DURABLE}.Delegating", "config": {"to": "artist"}},
    },
    {
        **_BASE,
        "id": "transferring",
        "name": "Transferring",
        "pattern": {
            "impl": f"{_DURABLE}.Delegating",
            "config": {"to": "assistant", "how": "transfer", "session_isolation": "shared"},
        },
    },
    {
        **_BASE,
        "id": "background",
        "name": "Background",
        "pattern": {
            "impl": f"{_DURABLE}.Delegating",
            "config": {"to": "artist", "background": True, "session_isolation": "forked"},
        },
    },
    {
        **_BASE,
        "id": "sharing",
        "name": "Sharing",
        "pattern": {"impl": f"{_DURABLE}.Delegating", "config": {"to": "child", "session_isolation": "shared"}},
    },
    {**_BASE, "id": "child", "name": "Child", "pattern": {"impl": f"{_DURABLE}.Child"}},
    *(
        {
            **_BASE,
            "id": f"to {name}",
            "name": "Delegating in vain",
            "pattern": {"impl": f"{_DURABLE}.Delegating", "config": {"to": name}},
        }
        for name in ("failing", "nobody")
    ),
    {
        **_BASE,
        "id": "batch",
        "name": "Batch",
        "pattern": {"impl": f"{_DURABLE}.Batch"},
        "tools": [{"id": "note", "impl": f"{_DURABLE}.Note"}],
    },
    {**_BASE, "id": "facts", "name": "Facts", "pattern": {"impl": f"{_WAITING}.Facts"}},
    {**_BASE, "id": "unloadable", "name": "Unloadable", "pattern": {"impl": "tests.no_such_module.Pattern"}},
]
RUNS: list[tuple[Any, ...]] = [
    ("assistant", "hello"),
    ("assistant", "/tool calc 6*7"),
    ("assistant", "/tool fail now"),
    ("assistant", "/tool calk 1"),
    ("assistant", "what did I say?"),
    ("artist", "draw"),
    ("failing", "go"),
    ("hasty", "/tool calc 1"),
    ("unloadable", "go"),
    ("nobody", "go"),
    ("durable", "go", {"durable": True}),
    ("assistant", "from a step", {"resume_from_checkpoint": "run-10:step:2"}),
    ("assistant", "from nowhere", {"resume_from_checkpoint": "run-10:step:99"}),
    ("careful", "/tool do it", {"context_hints": {"approvals": {"*": "allow"}}}),
    ("careful", "/tool do it", {"context_hints": {"approvals": {"*": "deny"}}}),
    ("careful", "/tool do it"),
    ("delegating", "draw"),
    ("transferring", "/tool calc 6*7"),
    ("background", "draw"),
    ("facts", '{"name": "a", "size": 1}', {"output_type": Fact}),
    ("facts", "no JSON", {"output_type": Fact}),
    ("facts", "no JSON", {"output_type": Fact, "budget": RunBudget(max_validation_retries=0)}),
    ("assistant", "/tool talk to me"),
    ("durable", "go", {"budget": RunBudget(max_tool_calls=2)}),
    ("assistant", "/tool calc 1", {"budget": RunBudget(max_steps=1)}),
    ("careful", "/tool do it", {"durable": True}),
    ("batch", "go", {"durable": True}),
    ("batch", "go", {"durable": True, "budget": RunBudget(max_tool_calls=2)}),
    ("sharing", "look around"),
    ("sharing", "look around", {"durable": True}),
    ("to failing", "go"),
    ("to nobody", "go"),
]
#: What only the fleet has to say.
FLEET_ONLY = {RunStreamChunkKind.RUN_QUEUED, RunStreamChunkKind.RUN_INTERRUPTED, RunStreamChunkKind.STREAM_GAP}
FLEET_METADATA = {"worker", "attempt", "partition", "config_version"}
#: Times differ from run to run, by nature.
TIMES = {
    "captured_at",
    "expires_ms",
    "timestamp_ms",
    "latency_ms",
    "duration_ms",
    "ttft_ms",
    "llm_latency_p50_ms",
    "llm_latency_p95_ms",
}


def requests() -> list[RunRequest]:
    return [
        RunRequest(agent_id=agent, session_id="parity", input_text=text, run_id=f"run-{number}", **dict(*fields))
        for number, (agent, text, *fields) in enumerate(RUNS)
    ]


async def followed(
    chunks: AsyncGenerator[RunStreamChunk], allow: Callable[[str], Awaitable[object]]
) -> list[RunStreamChunk]:
    """All chunks; whatever the run asks is allowed."""
    seen: list[RunStreamChunk] = []
    async for chunk in chunks:
        seen.append(chunk)
        if chunk.payload.get("waiting_for") == "approval":
            await allow(chunk.payload["call_id"])
    return seen


async def test_the_chunks_of_a_run_are_the_same_in_process_and_on_the_fleet(fleet: Fleet) -> None:
    config = {"agents": AGENTS, "multi_agent": {"enabled": True}}
    (fleet.folder / "agents.yaml").write_text(yaml.safe_dump(config))
    await fleet.start(1)
    here = Runtime.from_dict(config)

    for request in requests():
        run = request.run_id

        async def allow_here(call: str, run: str = run) -> None:
            here.approve(run, call, "allow")

        local = await followed(here.run_stream(request), allow_here)
        remote = await followed(
            fleet.client.run_stream(request), lambda call, run=run: fleet.client.approve(run, call, "allow")
        )

        assert [chunk.sequence for chunk in local] == list(range(1, len(local) + 1))
        assert [chunk.sequence for chunk in remote] == list(range(1, len(remote) + 1))
        assert _seen(remote) == _seen(local), request.input_text
        assert _outcome(remote[-1].result) == _outcome(local[-1].result), request.input_text
    await here.close()


def _seen(chunks: list[RunStreamChunk]) -> list[dict[str, Any]]:
    """What a reader sees, but for numbers and times; neighbouring deltas count as one: a publisher may join them."""
    seen: list[dict[str, Any]] = []
    for chunk in chunks:
        if chunk.kind in FLEET_ONLY:
            continue
        one = _timeless(chunk.model_dump(mode="json", exclude={"sequence", "cursor", "timestamp_ms", "result"}))
        if chunk.kind is RunStreamChunkKind.LLM_DELTA and seen and seen[-1]["kind"] == one["kind"]:
            seen[-1]["payload"]["text"] += one["payload"]["text"]
        else:
            seen.append(one)
    return seen


def _outcome(result: RunResult | None) -> dict[str, Any]:
    assert result is not None
    outcome = _timeless(result.model_dump(mode="json", exclude={"task_id"}))
    outcome["metadata"] = {name: value for name, value in outcome["metadata"].items() if name not in FLEET_METADATA}
    return outcome


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
