"""A run looks the same wherever it executes: in this process, and on the fleet."""

from __future__ import annotations

from typing import Any

import yaml

from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.kernel.runtime import Runtime
from tests.integration.fleet.conftest import Fleet, fleet
from tests.unit.kernel_setup import plugin

__all__ = ["fleet"]  # a fixture is used by its name

_BASE: dict[str, Any] = {"memory": {"type": "window_buffer"}, "pattern": {"type": "react"}, "llm": {"provider": "mock"}}
AGENTS: list[dict[str, Any]] = [
    {
        **_BASE,
        "id": "assistant",
        "name": "Assistant",
        "tools": [{"id": "calc", "type": "calc"}, {"id": "fail", **plugin("FailingTool")}],
    },
    {**_BASE, "id": "artist", "name": "Artist", "pattern": plugin("Artifacts")},
    {**_BASE, "id": "failing", "name": "Failing", "pattern": plugin("Raising", raises="value")},
    {**_BASE, "id": "hasty", "name": "Hasty", "pattern": {"type": "react", "config": {"max_steps": 1}}},
    {**_BASE, "id": "unloadable", "name": "Unloadable", "pattern": {"impl": "tests.no_such_module.Pattern"}},
]
RUNS = [
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
]
#: What only the fleet has to say.
FLEET_ONLY = {RunStreamChunkKind.RUN_QUEUED, RunStreamChunkKind.RUN_INTERRUPTED, RunStreamChunkKind.STREAM_GAP}
FLEET_METADATA = {"worker", "attempt", "partition", "config_version"}
#: Times differ from run to run, by nature.
TIMES = {"latency_ms", "duration_ms", "ttft_ms", "llm_latency_p50_ms", "llm_latency_p95_ms"}


def requests() -> list[RunRequest]:
    return [
        RunRequest(agent_id=agent, session_id="parity", input_text=text, run_id=f"run-{number}")
        for number, (agent, text) in enumerate(RUNS)
    ]


async def test_the_chunks_of_a_run_are_the_same_in_process_and_on_the_fleet(fleet: Fleet) -> None:
    config = {"agents": AGENTS}
    (fleet.folder / "agents.yaml").write_text(yaml.safe_dump(config))
    await fleet.start(1)
    here = Runtime.from_dict(config)

    for request in requests():
        local = [chunk async for chunk in here.run_stream(request)]
        remote = [chunk async for chunk in fleet.client.run_stream(request)]

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
