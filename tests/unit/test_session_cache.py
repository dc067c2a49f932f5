"""The session plugin cache: warm, bounded, and never closed under a run."""

from __future__ import annotations

import asyncio

import pytest

from runtime_core.ids import SessionKey
from runtime_core.session_cache import CacheCounters, SessionPluginCache


class Bench:
    """A cache of text plugins with a clock that the test moves."""

    def __init__(self, *, bound: int = 2, idle_seconds: float = 100) -> None:
        self.now = 0.0
        self.built = 0
        self.closed: list[str] = []
        self.cache = SessionPluginCache[str](
            close=self.close, bound=bound, idle_seconds=idle_seconds, clock=lambda: self.now
        )

    async def close(self, plugins: str) -> None:
        if plugins.startswith("bad"):
            raise RuntimeError(plugins)
        self.closed.append(plugins)

    def build(self) -> str:
        self.built += 1
        return f"plugins {self.built}"

    async def touch(self, session: str, agent: str = "a") -> tuple[str, bool]:
        async with self.cache.use(SessionKey(session), agent, self.build) as got:
            return got


async def test_plugins_are_built_once_per_session_and_agent() -> None:
    bench = Bench(bound=10)

    got = [await bench.touch(*key) for key in (("s1", "a"), ("s1", "a"), ("s1", "b"), ("s2", "a"))]

    assert got == [("plugins 1", False), ("plugins 1", True), ("plugins 2", False), ("plugins 3", False)]
    assert bench.cache.counters == CacheCounters(hits=1, misses=3, evictions=0)
    assert bench.cache.session_count() == 2


async def test_the_least_recently_used_leaves_beyond_the_bound() -> None:
    bench = Bench(bound=2)

    for session in ("s1", "s2", "s1", "s3"):
        await bench.touch(session)

    assert [session for session, _ in bench.cache.cached()] == ["s1", "s3"]
    assert bench.closed == ["plugins 2"]
    assert bench.cache.counters.evictions == 1


async def test_idle_plugins_leave() -> None:
    bench = Bench(idle_seconds=10)
    await bench.touch("s1")
    bench.now = 5
    await bench.touch("s2")

    bench.now = 11
    evicted = await bench.cache.evict_idle()

    assert evicted == 1
    assert [session for session, _ in bench.cache.cached()] == ["s2"]


async def test_plugins_in_use_neither_idle_away_nor_make_room() -> None:
    bench = Bench(bound=1, idle_seconds=10)

    async with bench.cache.use(SessionKey("s1"), "a", bench.build):
        bench.now = 50
        await bench.touch("s2")
        await bench.touch("s3")

        assert ("s1", "a") in bench.cache.cached()
        assert "plugins 1" not in bench.closed


async def test_evicted_plugins_in_use_are_closed_after_their_run_and_the_next_run_gets_fresh_ones() -> None:
    bench = Bench()

    async with bench.cache.use(SessionKey("s1"), "a", bench.build):
        await bench.cache.evict(SessionKey("s1"))
        during = list(bench.closed)
        fresh = await bench.touch("s1")

    assert during == []
    assert fresh == ("plugins 2", False)
    assert bench.closed == ["plugins 1"]
    assert await bench.touch("s1") == ("plugins 2", True)


async def test_an_agent_and_a_leaving_partition_can_be_evicted() -> None:
    bench = Bench(bound=10)
    for key in (("s1", "a"), ("s1", "b"), ("s2", "a"), ("s3", "b")):
        await bench.touch(*key)

    assert await bench.cache.evict_agent("a") == 2
    assert await bench.cache.evict_where(lambda key: key[0] == "s3") == 1
    assert bench.cache.cached() == [("s1", "b")]


async def test_plugins_that_cannot_be_built_are_not_cached() -> None:
    bench = Bench()

    def fail() -> str:
        raise ValueError("no plugin")

    with pytest.raises(ValueError, match="no plugin"):
        async with bench.cache.use(SessionKey("s1"), "a", fail):
            pass

    assert len(bench.cache) == 0
    assert await bench.touch("s1") == ("plugins 1", False)


async def test_a_close_that_fails_is_logged_and_the_others_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    async with bench.cache.use(SessionKey("s1"), "a", lambda: "bad plugin"):
        pass
    await bench.touch("s2")

    await bench.cache.close()

    assert bench.closed == ["plugins 1"]
    assert "session s1, agent a failed" in caplog.text
    assert len(bench.cache) == 0


async def test_concurrent_first_runs_of_a_session_share_their_plugins() -> None:
    bench = Bench()

    got = await asyncio.gather(*(bench.touch("s1") for _ in range(5)))

    assert {plugins for plugins, _ in got} == {"plugins 1"}
