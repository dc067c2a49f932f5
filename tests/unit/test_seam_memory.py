"""Every memory of the registry, driven through the same conversation; and what each adds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.context import LAST_OUTPUT_KEY, RunContext, RunScope
from runtime_core.contracts.run import StopReason
from runtime_core.errors import PluginConfigError, PluginLoadError
from runtime_core.events.bus import EventBus
from runtime_core.ids import DEFAULT_TENANT
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.tool.remember_preference import PENDING_WRITES_KEY
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS, ONLY_IN_SDK
from tests.unit.kernel_setup import config, names, recorded, request

MEMORIES = sorted(BUILTINS[Seam.MEMORY])
_HERE = "tests.unit.test_seam_memory"


def section(name: str, tmp_path: Path) -> dict[str, Any]:
    settings = {
        "markdown_memory": {"memory_dir": str(tmp_path / "memory")},
        "chain": {"memories": [{"type": "buffer"}, {"impl": f"{_HERE}.Noting"}]},
    }
    return {"type": name, "config": settings.get(name, {})}


def made(name: str, settings: dict[str, Any]) -> Any:
    return load_plugin(Seam.MEMORY, PluginRef(type=name, config=settings))


def context(run_id: str = "r", *, input_text: str = "hi", tenant: str = DEFAULT_TENANT) -> RunContext[Any]:
    asked, bus = request(input_text, run_id=run_id), EventBus()
    return RunContext[Any](
        agent_id="a",
        session_id="s",
        input_text=input_text,
        run_id=run_id,
        run_request=asked,
        event_bus=bus,
        scope=RunScope(tenant=tenant),
    )


class Noting:
    """A memory that writes down what is asked of it, and fails when it is told to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.log: list[str] = config.get("log", [])

    def _note(self, step: str) -> None:
        self.log.append(f"{self.config.get('name')} {step}")
        if step == self.config.get("fails"):
            raise RuntimeError(f"no {step}")

    async def inject(self, context: RunContext[Any]) -> None:
        self._note("inject")

    async def writeback(self, context: RunContext[Any]) -> None:
        self._note("writeback")

    async def retrieve(self, query: str, context: RunContext[Any]) -> list[dict[str, Any]]:
        self._note("retrieve")
        return [{"by": self.config.get("name")}]

    async def close(self) -> None:
        self._note("close")


PREFERENCE = {"category": "user_goals", "rule": "likes owls", "reason": "said so"}


@pytest.mark.parametrize("name", MEMORIES)
async def test_a_memory_serves_a_conversation(name: str, tmp_path: Path) -> None:
    tools = [{"id": "remember", "type": "remember_preference"}]
    runtime = Runtime.from_dict(config(memory=section(name, tmp_path), tools=tools))
    for text in (f"/tool remember {json.dumps(PREFERENCE)}", "and now?"):
        result, events = await recorded(runtime, request(text))
        assert result.stop_reason is StopReason.COMPLETED, result.error_details
        assert "memory.inject.completed" in names(events)
        assert {"memory.inject_failed", "memory.writeback_failed"}.isdisjoint(names(events))
    await runtime.close()


@pytest.mark.parametrize("name", MEMORIES)
async def test_a_memory_shows_and_finds_what_it_kept(name: str, tmp_path: Path) -> None:
    memory = load_plugin(Seam.MEMORY, PluginRef(**section(name, tmp_path)))
    first = context("first", input_text="do you like owls?")
    await memory.inject(first)
    first.state |= {LAST_OUTPUT_KEY: "I do", PENDING_WRITES_KEY: [PREFERENCE]}
    await memory.writeback(first)

    second = context("second")
    await memory.inject(second)

    assert any("owls" in json.dumps(shown) for shown in second.memory_view.values())
    assert any("owls" in json.dumps(found) for found in await memory.retrieve("owls", second))
    assert not [found for found in await memory.retrieve("newts", second) if "by" not in found]
    await closed(memory)


async def closed(memory: Any) -> None:
    if hasattr(memory, "close"):
        await memory.close()


@pytest.mark.parametrize("name", ONLY_IN_SDK[Seam.MEMORY])
def test_a_memory_that_only_the_sdk_has_names_its_package_and_its_class_there(name: str) -> None:
    package, path = ONLY_IN_SDK[Seam.MEMORY][name]
    with pytest.raises(PluginLoadError, match=f"(?s)needs the package '{package}'.*{path}"):
        made(name, {})


def chained(log: list[str], *fails: str | None, on_error: str = "continue") -> Any:
    """A chain of memories that fail in these steps."""
    refs = [
        {"impl": f"{_HERE}.Noting", "on_error": on_error, "config": {"name": number, "fails": step}}
        for number, step in enumerate(fails)
    ]
    chain = made("chain", {"memories": refs})
    for memory, _ in chain._memories:
        memory.log = log
    return chain


async def test_a_chain_asks_each_and_ends_them_in_reverse() -> None:
    log: list[str] = []
    chain = chained(log, None, None)
    await chain.inject(context())
    assert await chain.retrieve("owls", context()) == [{"by": 0}, {"by": 1}]
    await chain.writeback(context())
    await chain.compact(context())
    await chain.close()
    order = ["0 inject", "1 inject", "0 retrieve", "1 retrieve", "1 writeback", "0 writeback", "1 close", "0 close"]
    assert log == order


@pytest.mark.parametrize("on_error", ["continue", "fail"])
async def test_a_memory_that_fails_does_not_lose_the_others(on_error: str) -> None:
    log: list[str] = []
    chain = chained(log, "inject", None, on_error=on_error)
    if on_error == "fail":
        with pytest.raises(RuntimeError, match="no inject"):
            await chain.inject(context())
    else:
        await chain.inject(context())
    assert log == ["0 inject", "1 inject"]


def test_a_chain_of_nothing_and_one_with_an_unknown_memory_are_refused() -> None:
    with pytest.raises(PluginConfigError, match="memories"):
        made("chain", {"memories": []})
    with pytest.raises(PluginLoadError, match=r"chain\.memories\[0\]"):
        made("chain", {"memories": [{"type": "bufer"}]})


def markdown(tmp_path: Path, **settings: Any) -> Any:
    return made("markdown_memory", {"memory_dir": str(tmp_path / "memory"), **settings})


async def test_what_is_remembered_is_a_file_that_people_read(tmp_path: Path) -> None:
    memory = markdown(tmp_path)
    entry = memory.capture("decisions", "use\n\nRedis", "it is there")
    text = (tmp_path / "memory" / "decisions.md").read_text()
    assert text.startswith(f"### {entry} · ")
    assert "**Rule:** use Redis\n**Why:** it is there\n" in text
    assert "[decisions](decisions.md) — 1 entries" in (tmp_path / "memory" / "MEMORY.md").read_text()
    assert memory.forget(entry)
    assert not memory.forget(entry)
    assert memory.list_entries("decisions") == []
    memory.capture("../../etc", "lands", "in a section")
    assert [one["rule"] for one in memory.list_entries("user_feedback")] == ["lands"]
    with pytest.raises(PluginConfigError, match="sections"):
        markdown(tmp_path, sections=["../up"])


async def test_the_model_is_told_of_the_newest_that_there_is_room_for(tmp_path: Path) -> None:
    memory = markdown(tmp_path, max_chars_per_section=25)
    for number in range(3):
        memory.capture("decisions", f"rule {number}", "x" * 6)
    run = context()
    await memory.inject(run)
    assert [entry["rule"] for entry in run.memory_view["decisions"]] == ["rule 1", "rule 2"]
    assert "- decisions: rule 2" in run.system_prompt_fragments[0]
    memory.capture("decisions", "y" * 100, "too long, but the newest")
    await memory.inject(run)
    assert [entry["rule"] for entry in run.memory_view["decisions"]] == ["y" * 100]


async def test_a_repeated_attempt_remembers_once(tmp_path: Path) -> None:
    memory = markdown(tmp_path)
    for _ in range(2):
        run = context("same")
        run.state[PENDING_WRITES_KEY] = [PREFERENCE, {**PREFERENCE, "rule": "likes newts"}]
        await memory.writeback(run)
        assert run.state[PENDING_WRITES_KEY] == []
    assert [entry["rule"] for entry in memory.list_entries("user_goals")] == ["likes owls", "likes newts"]


async def test_tenants_do_not_read_what_others_remember(tmp_path: Path) -> None:
    for tenant in ("acme", "..", DEFAULT_TENANT):
        run = context(tenant=tenant)
        run.state[PENDING_WRITES_KEY] = [{**PREFERENCE, "rule": f"of {tenant}"}]
        await markdown(tmp_path).writeback(run)
    for tenant in ("acme", "..", DEFAULT_TENANT):
        memory, run = markdown(tmp_path), context(tenant=tenant)
        await memory.inject(run)
        assert [entry["rule"] for entry in run.memory_view["user_goals"]] == [f"of {tenant}"]
        found = await markdown(tmp_path).retrieve("of ", context(tenant=tenant))
        assert [entry["rule"] for entry in found] == [f"of {tenant}"]
    assert {path.name for path in tmp_path.iterdir()} == {"memory"}


async def test_sessions_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    memories = [markdown(tmp_path) for _ in range(4)]
    await asyncio.gather(
        *(asyncio.to_thread(memory.capture, "decisions", f"{n}", "") for n in range(10) for memory in memories)
    )
    assert len(memories[0].list_entries("decisions")) == 40
