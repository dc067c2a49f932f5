"""What a fleet that has done its work leaves in Redis: keys of the catalogue, and nothing of a run without an end."""

from __future__ import annotations

import asyncio

from celery import Celery

from runtime_core.ids import ScopedRunId, ingress_run_id
from runtime_core.store import keys
from runtime_core.store.connection import connect
from runtime_core.store.keys import Life
from tests.integration.fleet.conftest import Fleet, request, wait_until


async def test_a_fleet_that_has_done_its_work_leaves_nothing_without_an_end(fleet: Fleet) -> None:
    await fleet.start(2)

    def submit_and_look() -> str:
        with Celery("stranger", broker=fleet.redis_url, set_as_current=False) as app:
            body = {"agent_id": "assistant", "session_id": "c", "input_text": "/tool calc 1+1"}
            sent = app.send_task("runlane.submit", [body], queue="runs")
            app.control.inspect(timeout=1).ping()
            return str(sent.id)

    celery_id = await asyncio.to_thread(submit_and_look)
    handles = [await fleet.client.submit(request(f"echo {n}", session=f"s{n % 3}")) for n in range(9)]
    cancelled = await fleet.client.submit(request("wait 60", session="cancelled"))
    await fleet.client.submit(request("echo child", session="child", parent_run_id=cancelled.run_id))
    await wait_until(lambda: "wait 60" in str(fleet.journal()), "the run that is to be cancelled executes")
    await cancelled.cancel()
    for handle in (*handles, cancelled):
        await handle.result(timeout=30)

    redis = connect(fleet.redis_url)
    known = [key async for key in redis.scan_iter(count=1000)]

    async def submitted() -> bool:
        return bool(await redis.exists(keys.run_pointer(ScopedRunId(ingress_run_id(celery_id)))))

    await wait_until(submitted, "the run of the plain client is there")
    await fleet.client.result(ingress_run_id(celery_id), timeout=30)

    async def unfinished() -> list[str]:
        return [key async for key in redis.scan_iter(count=1000) if keys.life_of(key) is Life.UNFINISHED]

    async def nothing_unfinished() -> bool:
        return not await unfinished()

    await wait_until(nothing_unfinished, "no key is left that names unfinished runs")
    known += [key async for key in redis.scan_iter(count=1000)]
    assert {key for key in known if keys.life_of(key) is None} == set()
    endless = [key for key in known if keys.life_of(key) in (Life.RUN, Life.TTL) and await redis.ttl(key) == -1]
    assert endless == []
    await redis.aclose()
