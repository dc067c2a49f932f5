"""The registry of agents configs, and which version a run gets."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from runtime_core.contracts.config_version import ConfigFormat, ConfigText
from runtime_core.errors import ConfigError
from runtime_core.ids import ScopedRunId, session_key
from runtime_core.store import keys
from runtime_core.store.attempts import Admission
from runtime_core.store.configs import Activated, Activation, ConfigStore
from runtime_core.store.leases import Lease
from tests.integration.store.conftest import PARTITION, Store

IDLE_S = 60.0


@pytest.fixture
def configs(redis: Redis) -> ConfigStore:
    return ConfigStore(redis)


async def push(configs: ConfigStore, text: str, *, expected: int) -> Activated:
    digest = await configs.propose(ConfigText(text=text))
    return await configs.activate(digest, expected=expected, author="ann@host", source="agents.yaml")


async def fill(configs: ConfigStore, versions: int) -> None:
    for version in range(1, versions + 1):
        await push(configs, f"text {version}", expected=version - 1)


async def admitted(store: Store, lease: Lease, run: str, version: int, nonce: str = "") -> Admission:
    decision = await store.attempts.admit(
        lease, ScopedRunId(run), nonce=nonce or run, config_version=version, session_idle_s=IDLE_S
    )
    assert isinstance(decision, Admission)
    return decision


async def ran(store: Store, lease: Lease, run: str, version: int, session: str = "s") -> int:
    """Submit, execute and finish a run on a worker that has ``version``; the version that it got."""
    await store.submit(run, session)
    admission = await admitted(store, lease, run, version)
    await store.finish(admission, admission.sequence + 1)
    return admission.config_version


async def test_versions_count_from_one_and_keep_what_was_pushed(configs: ConfigStore) -> None:
    assert await configs.current() == 0
    assert await push(configs, "a: ${KEY}", expected=0) == Activated(outcome=Activation.NEW, version=1)
    digest = await configs.propose(ConfigText.named("x.JSON", "{}"))
    await configs.activate(digest, expected=1, author="bob@host", source="x.JSON")

    assert await configs.text(1) == ConfigText(text="a: ${KEY}", format=ConfigFormat.YAML)
    assert await configs.text(2) == ConfigText(text="{}", format=ConfigFormat.JSON)
    newest, oldest = await configs.list()
    assert (newest.version, newest.current, newest.author, newest.source) == (2, True, "bob@host", "x.JSON")
    assert (oldest.version, oldest.current, oldest.author) == (1, False, "ann@host")
    assert newest.created_ms >= oldest.created_ms > 0


async def test_of_two_pushes_that_saw_the_same_version_one_is_refused(configs: ConfigStore) -> None:
    await push(configs, "one", expected=0)
    await push(configs, "two", expected=1)
    assert await push(configs, "three", expected=1) == Activated(outcome=Activation.MOVED, version=2)
    assert (await configs.text(2)).text == "two"


async def test_pushing_what_is_current_changes_nothing(configs: ConfigStore) -> None:
    await push(configs, "one", expected=0)
    assert await push(configs, "one", expected=0) == Activated(outcome=Activation.SAME, version=1)
    assert len(await configs.list()) == 1


async def test_what_is_not_there_is_named(configs: ConfigStore) -> None:
    with pytest.raises(ConfigError, match="no config version 3"):
        await configs.text(3)
    with pytest.raises(ConfigError, match="waited for too long"):
        await configs.candidate("0" * 32)
    with pytest.raises(ConfigError, match="waited for too long"):
        await configs.activate("0" * 32, expected=0, author="", source="")
    with pytest.raises(ConfigError, match="4,194,305 bytes"):
        await configs.propose(ConfigText(text="x" * (4 * 1024 * 1024 + 1)))


async def test_old_versions_expire_unless_a_session_is_pinned_to_them(store: Store, configs: ConfigStore) -> None:
    lease = await store.own()
    await fill(configs, 2)
    await ran(store, lease, "r1", 2)
    for version in range(3, 54):
        await push(configs, f"text {version}", expected=version - 1)
    assert [found.version for found in await configs.list()][-3:] == [3, 2, 1]
    for version, bound in ((1, True), (2, True), (3, True), (4, False)):
        assert (await store.redis.ttl(keys.config(version)) > 0) is bound, version

    await store.redis.expire(keys.config(1), 100)
    await store.redis.expire(keys.config(2), 100)
    await ran(store, lease, "r2", 53)

    assert await store.redis.ttl(keys.config(2)) > 29 * 24 * 3600, "a session that is pinned to it has just run"
    assert await store.redis.ttl(keys.config(1)) <= 100
    assert await ran(store, lease, "r3", 53, session="new") == 53
    assert await store.redis.ttl(keys.config(53)) == -1
    await store.redis.delete(keys.config(1))
    await push(configs, "text 54", expected=53)
    assert [found.version for found in await configs.list()][-1] == 2
    assert await store.redis.zscore(keys.CONFIGS, "1") is None


async def test_a_session_keeps_the_version_of_its_first_run(store: Store) -> None:
    lease = await store.own()
    assert [await ran(store, lease, f"r{version}", version) for version in (3, 4, 5)] == [3, 3, 3]


async def test_a_session_that_was_idle_gets_the_current_version(store: Store) -> None:
    lease = await store.own()
    await ran(store, lease, "r1", 3)
    meta = keys.session_part(PARTITION, session_key("default", "s"), "meta")
    now, _ = await store.redis.time()
    await store.redis.hset(meta, "last_run_ms", str((now - IDLE_S + 5) * 1000))
    assert await ran(store, lease, "r2", 4) == 3
    await store.redis.hset(meta, "last_run_ms", str((now - IDLE_S - 5) * 1000))
    assert await ran(store, lease, "r3", 4) == 4


async def test_a_session_that_was_closed_gets_the_current_version(store: Store) -> None:
    lease = await store.own()
    await ran(store, lease, "r1", 3)
    await store.sessions.unpin(session_key("default", "s"))
    assert await ran(store, lease, "r2", 4) == 4


async def test_sessions_of_a_reloaded_agent_get_the_version_that_is_current_then(
    store: Store, configs: ConfigStore
) -> None:
    lease = await store.own()
    await fill(configs, 4)
    assert await ran(store, lease, "r1", 3) == 3
    assert await configs.reload_agent("another") == 1
    assert await ran(store, lease, "r2", 4) == 3, "it is the agent of other sessions"
    assert await configs.reload_agent("a") == 2
    assert await ran(store, lease, "r3", 4) == 4
    await push(configs, "text 5", expected=4)
    assert await ran(store, lease, "r4", 5) == 4, "pinned again"
    assert await configs.reloaded_agents(0) == {"another": 1, "a": 2}
    assert await configs.reloaded_agents(1) == {"a": 2}


async def test_a_run_keeps_the_version_of_its_first_attempt(store: Store) -> None:
    lease = await store.own()
    await store.submit("r", "s")
    await admitted(store, lease, "r", 3)
    await store.sessions.unpin(session_key("default", "s"))
    lease = await store.take_over(lease, "w2")
    again = await admitted(store, lease, "r", 4, nonce="again")
    assert (again.attempt, again.config_version) == (2, 3)
    await store.finish(again, again.sequence + 1)
    assert await ran(store, lease, "next", 4) == 4, "the session was closed meanwhile"


async def test_an_admission_says_how_long_its_run_waited(store: Store) -> None:
    lease = await store.own()
    await store.submit("r", "s")
    record = keys.run(PARTITION, ScopedRunId("r"))
    submitted = int(await store.redis.hget(record, "submitted_ms") or 0)
    await store.redis.hset(record, "submitted_ms", str(submitted - 5000))
    assert 5000 <= (await admitted(store, lease, "r", 1)).waited_ms < 10_000


async def test_a_look_at_the_fleet_says_the_current_version_and_the_reloads(store: Store, configs: ConfigStore) -> None:
    fleet = await store.leases.observe(1)
    assert (fleet.config_version, fleet.reloads) == (0, 0)
    await fill(configs, 2)
    await configs.reload_agent("a")
    fleet = await store.leases.observe(1)
    assert (fleet.config_version, fleet.reloads) == (2, 1)
