"""Reload of the in-process Runtime: what changes for whom, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime_core.contracts.context import RunScope
from runtime_core.errors import AgentNotFoundError, ConfigError, PluginLoadError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from runtime_core.llm.clients import LLMClients
from runtime_core.llm.mock import MockClient
from tests.unit.kernel_plugins import ClosingMemory
from tests.unit.kernel_setup import config, plugin, request


class AgentsFile:
    """An agents file that the test rewrites."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *agents: dict[str, Any], **sections: Any) -> None:
        self.path.write_text(yaml.safe_dump({"agents": [agent["agents"][0] for agent in agents], **sections}))


@pytest.fixture
def file(tmp_path: Path) -> AgentsFile:
    file = AgentsFile(tmp_path / "agents.yaml")
    file.write(config())
    return file


async def test_a_reload_counts_names_what_changed_and_tells_the_bus(file: AgentsFile) -> None:
    file.write(config(), config(agent_id="b"), config(agent_id="c"))
    host = Runtime.from_config(file.path)
    heard: list[RuntimeEvent] = []
    host.event_bus.subscribe("config.reloaded", heard.append)

    file.write(config(), config(agent_id="b", name="Other"), config(agent_id="d"))
    await host.reload()

    assert host.config_version == 2
    assert [agent["id"] for agent in await host.list_agents()] == ["a", "b", "d"]
    assert [event.payload for event in heard] == [
        {"old_version": 1, "new_version": 2, "changed_agents": ["b", "c", "d"]}
    ]


async def test_sessions_keep_their_plugins_and_new_ones_get_the_new(file: AgentsFile) -> None:
    host = Runtime.from_config(file.path)
    await host.run_detailed(request("one", session="old"))
    file.write(config(pattern=plugin("Raising", raises="value")))

    await host.reload()

    assert (await host.run_detailed(request("two", session="old"))).final_output == "Echo: two (history=1)"
    assert (await host.run_detailed(request("one", session="new"))).error_details is not None


async def test_a_session_that_is_pinned_keeps_its_version_whole(file: AgentsFile) -> None:
    host = Runtime(Runtime.from_config(file.path).config, shared_sessions_only=False)
    pinned = RunScope(config_version=1, pinned=True)
    await host.execute(request("one"), pinned)
    changed = Runtime.from_dict(config(pattern=plugin("Raising", raises="value"))).config
    host._versions.swap(changed, 2, keep=True)

    assert (await host.execute(request("two"), pinned)).final_output == "Echo: two (history=1)"
    moved = await host.execute(request("three"), RunScope(config_version=2, pinned=True))

    assert moved.error_details is not None, "its plugins are built anew from the version that it has now"


async def test_an_agent_that_is_gone_is_unknown_and_its_memories_are_closed(file: AgentsFile) -> None:
    file.write(config(), config(agent_id="b", memory=plugin("ClosingMemory")))
    host = Runtime.from_config(file.path)
    await host.run_detailed(request("one", agent="b"))
    ClosingMemory.closed.clear()
    file.write(config())

    await host.reload()

    assert len(ClosingMemory.closed) == 1
    with pytest.raises(AgentNotFoundError):
        await host.run_detailed(request("two", agent="b"))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"memory": {"impl": "no.such.Memory"}}, PluginLoadError, "no module 'no'"),
        ({"llm": {"provider": "openai_compatible"}}, ConfigError, "api_base"),
        ({"nmae": "x"}, ConfigError, "nmae"),
    ],
)
async def test_a_config_that_cannot_be_loaded_changes_nothing(
    file: AgentsFile, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    host = Runtime.from_config(file.path)
    file.write(config(**changes))

    with pytest.raises(error, match=says):
        await host.reload()

    assert host.config_version == 1
    assert (await host.run_detailed(request("one"))).final_output == "Echo: one (history=0)"


@pytest.mark.parametrize("section", ["session", "events", "runtime"])
async def test_sections_that_are_wired_in_cannot_change(file: AgentsFile, section: str) -> None:
    host = Runtime.from_config(file.path)
    file.write(config(), **{section: {"type": "another"}})

    with pytest.raises(ConfigError, match=f"the {section} section cannot change"):
        await host.reload()


async def test_a_runtime_without_a_file_has_nothing_to_reload() -> None:
    with pytest.raises(ConfigError, match="no agents file"):
        await Runtime.from_dict(config()).reload()


async def test_reload_agent_closes_its_memories_in_every_session(file: AgentsFile) -> None:
    file.write(config(memory=plugin("ClosingMemory")), config(agent_id="b"))
    host = Runtime.from_config(file.path)
    heard: list[RuntimeEvent] = []
    host.event_bus.subscribe("agent.reloaded", heard.append)
    for session in ("s1", "s2"):
        await host.run_detailed(request(session=session))
    await host.run_detailed(request(session="s1", agent="b"))
    ClosingMemory.closed.clear()

    assert await host.reload_agent("a") == 2

    assert len(ClosingMemory.closed) == 2
    assert host.get_session_count() == 1
    assert [event.payload for event in heard] == [{"agent_id": "a"}]
    with pytest.raises(AgentNotFoundError):
        await host.reload_agent("x")


async def test_a_model_client_is_shared_while_its_options_last_and_closed_after_its_last_run() -> None:
    (agent,) = Runtime.from_dict(config()).config.agents
    (other,) = Runtime.from_dict(config(llm={"provider": "mock", "model": "m2"})).config.agents
    clients = LLMClients()
    closed: list[Any] = []

    async with clients.use(agent) as first, clients.use(agent) as second:
        assert isinstance(first, MockClient)
        assert first is second

        async def note() -> None:
            closed.append(first)

        first.close = note
        await clients.keep([agent, other])
        assert not closed
        async with clients.use(agent) as again:
            assert again is first
        await clients.keep([other])
        assert not closed, "two runs use it"
        async with clients.use(agent) as fresh:
            assert fresh is not first
    assert closed == [first]
