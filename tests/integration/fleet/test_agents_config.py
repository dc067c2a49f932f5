"""How a worker follows the registry, without Celery around it: what it does with versions that it cannot have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime_core.config.loader import load_config_dict
from runtime_core.contracts.config_version import ConfigText
from runtime_core.errors import ConfigError, RunlaneError
from runtime_core.ids import session_key
from runtime_core.kernel.agent_plugins import load_agent_plugins
from runtime_core.kernel.runtime import Runtime
from runtime_core.store import keys
from runtime_core.store.configs import ConfigStore
from runtime_core.store.leases import LeaseStore
from tests.integration.fleet.conftest import wait_until
from workers.agents_config import AgentsConfig, first_config

ECHO: dict[str, Any] = {"id": "a", "name": "A", "memory": {"type": "buffer"}, "pattern": {"type": "react"}}
BROKEN = ECHO | {"memory": {"impl": "no.such.Memory"}}


def config(*agents: dict[str, Any]) -> dict[str, Any]:
    return {"agents": [*agents], "session": {"type": "redis"}}


class Follower:
    """A worker's config, and the registry that it follows."""

    def __init__(self, redis: Redis) -> None:
        self.redis: Any = redis
        self.store = ConfigStore(redis)
        self.leases = LeaseStore(redis)
        self.runtime = Runtime(load_config_dict(config(ECHO)), session_manager=object(), shared_sessions_only=True)
        self.agents = AgentsConfig(self.store, self.runtime)

    async def publish(self, *agents: dict[str, Any]) -> int:
        text = ConfigText(text=json.dumps(config(*agents)))
        expected = await self.store.current()
        digest = await self.store.propose(text)
        return (await self.store.activate(digest, expected=expected, author="me", source="test")).version

    async def look(self) -> None:
        self.agents.look(await self.leases.observe(1))


@pytest.fixture
async def follower(redis: Redis) -> Follower:
    follower = Follower(redis)
    await follower.publish(ECHO)
    return follower


async def test_a_version_that_cannot_be_loaded_leaves_the_one_before_and_says_why(follower: Follower) -> None:
    bad = await follower.publish(BROKEN)
    await follower.look()
    await wait_until(lambda: follower.agents.problem is not None, "the worker says what is wrong")
    assert "no module 'no'" in str(follower.agents.problem)
    assert follower.runtime.config_version == 1

    await follower.look()
    assert follower.agents._making_up is None, "it is not tried at each look"
    good = await follower.publish(ECHO | {"name": "B"})
    await follower.look()
    await wait_until(lambda: follower.runtime.config_version == good, "the next one is taken")
    assert follower.agents.problem is None
    with pytest.raises(RunlaneError, match="no module 'no'"):
        await follower.agents.reload(bad)


async def test_who_is_told_of_a_version_that_a_heartbeat_brought_first_answers_with_what_it_changed(
    follower: Follower,
) -> None:
    version = await follower.publish(ECHO, ECHO | {"id": "b"})
    await follower.look()
    await wait_until(lambda: follower.runtime.config_version == version, "the heartbeat brings it")
    assert await follower.agents.reload(version) == ["b"]


async def test_an_earlier_version_is_provided_for_the_sessions_that_have_it(follower: Follower) -> None:
    second = await follower.publish(BROKEN, ECHO | {"id": "b", "name": "Old"})
    third = await follower.publish(ECHO, ECHO | {"id": "b", "name": "New"})
    await follower.agents.reload(third)
    assert await follower.agents.provide(second) == second, "one broken agent is no reason to refuse the others"
    assert follower.runtime._versions.agent("b", second).name == "Old"
    assert follower.runtime._versions.agent("b", third).name == "New"


async def test_where_a_version_cannot_be_had_the_current_one_serves(follower: Follower) -> None:
    newer = await follower.publish(BROKEN)
    assert await follower.agents.provide(newer) == 1, "it is later than what is known to be good here"
    assert await follower.agents.provide(99) == 1
    second = await follower.publish(ECHO | {"name": "B"})
    await follower.agents.reload(second)
    await follower.redis.delete(keys.config(1))
    assert await follower.agents.provide(1) == 1, "it is in memory"


async def test_only_eight_earlier_versions_stay_in_memory(follower: Follower) -> None:
    for number in range(2, 12):
        await follower.agents.reload(await follower.publish(ECHO | {"name": str(number)}))
    assert [version for version in range(1, 12) if follower.runtime.has_version(version)] == list(range(3, 12))
    assert await follower.agents.provide(2) == 2, "it is loaded again"


async def test_reloads_are_followed_also_after_the_store_lost_its_last_writes(follower: Follower) -> None:
    async def hold() -> None:
        (agent,) = follower.runtime.config.agents
        session = session_key("default", "s")
        async with follower.runtime.plugin_cache.use(session, "a", lambda: load_agent_plugins(agent)):
            pass

    await follower.look()
    for _ in range(3):
        await follower.store.reload_agent("a")
    await hold()
    await follower.look()
    await wait_until(lambda: len(follower.runtime.plugin_cache) == 0, "the plugins are dropped")
    await follower.redis.delete(keys.RELOADS)
    await follower.look()
    await hold()
    await follower.store.reload_agent("a")
    await follower.look()
    await wait_until(lambda: len(follower.runtime.plugin_cache) == 0, "the plugins are dropped again")


async def test_the_first_worker_publishes_its_file_and_others_take_what_is_there(redis: Redis, tmp_path: Path) -> None:
    store = ConfigStore(redis)
    mine, theirs = tmp_path / "mine.json", tmp_path / "theirs.json"
    mine.write_text(json.dumps(config(ECHO)))
    theirs.write_text(json.dumps(config(ECHO | {"id": "b"})))

    assert [agent.id for agent in (await first_config(store, mine))[0].agents] == ["a"]
    found, version = await first_config(store, theirs)
    assert ([agent.id for agent in found.agents], version) == (["a"], 1)
    assert (await first_config(store, None))[1] == 1
    (listed,) = await store.list()
    assert listed.source == str(mine)


async def test_a_wrong_file_is_not_published(redis: Redis, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("agents: []")
    with pytest.raises(ConfigError, match="at least one agent"):
        await first_config(ConfigStore(redis), wrong)
    assert await ConfigStore(redis).current() == 0
