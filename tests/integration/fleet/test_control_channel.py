"""The control channel hurries cancels along, whatever came in between."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from tests.integration.fleet.conftest import wait_until
from workers.control.channel import listen


async def test_a_worker_that_may_not_subscribe_for_a_while_listens_again(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[ScopedRunId] = []
    await redis.execute_command("ACL", "SETUSER", "default", "-psubscribe")
    listening = asyncio.create_task(listen(redis, on_cancel=cancelled.append, on_woken=print, on_released=int))
    try:
        await wait_until(lambda: "control channel" in caplog.text or listening.done(), "the subscription is refused")
        await redis.execute_command("ACL", "SETUSER", "default", "+psubscribe")

        async def heard() -> bool:
            await redis.publish(keys.control_channel(0), "cancel r1")
            return bool(cancelled)

        await wait_until(heard, "a cancel is heard")
    finally:
        await redis.execute_command("ACL", "SETUSER", "default", "+psubscribe")
        listening.cancel()
        await asyncio.wait({listening})
    assert set(cancelled) == {"r1"}
