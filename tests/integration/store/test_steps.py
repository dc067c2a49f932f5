"""Durable steps: written once under the fence, found by the next attempt, with the session writes up to them."""

from __future__ import annotations

import json

import pytest

from runtime_core.errors import LeaseLost
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store.sessions import message_entry
from tests.integration.store.conftest import Store

R1 = ScopedRunId("r1")


def entry(text: str) -> str:
    return json.dumps(message_entry({"of": text}))


async def test_the_next_attempt_goes_on_behind_the_last_step(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    first = await store.admitted(lease, "r1")
    assert (first.staged, first.steps) == (0, {})
    await store.attempts.stage(first, 0, [entry("kept")])
    await store.attempts.step(first, "1", '{"messages": [":"]}')
    await store.attempts.stage(first, 1, [entry("of an attempt that ended")])

    second = await store.admitted(await store.take_over(lease, "w2"), "r1")

    assert (second.staged, second.steps) == (1, {"1": '{"messages": [":"]}'})
    await store.attempts.stage(second, 1, [entry("of the second")])
    await store.finish(second, second.sequence + 1)
    kept = [message["of"] for message in await store.sessions.messages(SessionKey("default/s"))]
    assert kept == ["kept", "of the second"]


async def test_a_step_is_written_once(store: Store) -> None:
    admission = await store.admitted(await store.own(), (await store.submit("r1")))
    assert await store.attempts.step(admission, "1", "first") is False
    await store.attempts.stage(admission, 0, [entry("later")])
    await store.attempts.step(admission, "1", "again")
    assert await store.redis.hgetall("rl:{p0000}:steps:r1") == {"1": "0:first"}


async def test_a_step_hears_of_a_cancel(store: Store) -> None:
    admission = await store.admitted(await store.own(), (await store.submit("r1")))
    await store.runs.cancel(R1)
    assert await store.attempts.step(admission, "1", "") is True


async def test_a_lost_lease_or_an_earlier_attempt_takes_no_step(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("r1")
    first = await store.admitted(lease, "r1")
    await store.attempts.repair(lease, R1, 1)
    with pytest.raises(LeaseLost):
        await store.attempts.step(first, "1", "")
    second = await store.admitted(lease, "r1")
    await store.take_over(lease, "w2")
    with pytest.raises(LeaseLost):
        await store.attempts.step(second, "1", "")
    assert not await store.redis.exists("rl:{p0000}:steps:r1")


async def test_the_steps_of_another_sessions_run_are_not_shown(store: Store) -> None:
    admission = await store.admitted(await store.own(), (await store.submit("r1")))
    await store.attempts.step(admission, "1", "{}")
    assert await store.sessions.steps(SessionKey("default/s"), R1) == {1: "{}"}
    assert await store.sessions.steps(SessionKey("default/another"), R1) == {}
