"""The events that scripts make: of what happens to a run while no attempt of it executes, up to the start of one."""

from __future__ import annotations

import asyncio

from runtime_core.contracts.frame import decode_frame
from runtime_core.events.taxonomy import missing_keys
from runtime_core.store import keys
from tests.integration.store.conftest import PARTITION, Store
from tests.unit.test_every_event import OF_THE_STORE


async def test_the_store_emits_its_events_with_the_keys_that_they_declare(store: Store) -> None:
    lease = await store.own("w1")
    run = await store.submit("parent", "parent")
    live: list[tuple[str, list[str]]] = []
    async with store.redis.pubsub() as subscription:
        await subscription.subscribe(keys.events_channel(PARTITION, run))
        await store.admitted(lease, "parent")
        await store.submit("child", "child", parent_run_id="parent")
        second = await store.admitted(await store.take_over(lease, "w2"), "parent")
        await store.finish(second, second.sequence + 1)
        async with asyncio.timeout(5):
            while not live or live[-1][0] != "run.finished":
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    frame = decode_frame(message["data"])
                    live.append((frame.event, missing_keys(frame.event, frame.payload)))
    logged = [(frame.event, missing_keys(frame.event, frame.payload)) for frame in await store.frames("parent")]
    assert {name for name, _ in [*logged, *live]} == OF_THE_STORE - {"stream.gap"} | {"run.started"}, (
        "a kernel emits that, too"
    )
    assert [missing for name, missing in [*logged, *live] if missing and name != "run.finished"] == []
