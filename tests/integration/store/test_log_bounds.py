"""What a run's log holds, what it drops, and what stands in for that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime_core.contracts.frame import Frame, RunIds, encode_frame
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, NumberedFrame
from tests.integration.store.conftest import PARTITION, Store

RUN = ScopedRunId("r1")


def numbered(
    admission: Admission, sequence: int, event: str, payload: dict[str, Any], stored: bytes = b""
) -> NumberedFrame:
    ids = RunIds(run_id=RUN, session_id="s", agent_id="a")
    frame = Frame(
        logged=True,
        sequence=sequence,
        attempt=admission.attempt,
        event=event,
        timestamp_ms=1,
        ids=ids,
        config_version=1,
        payload=payload,
        stored=len(stored) or None,
    )
    return NumberedFrame(sequence, True, encode_frame(frame), stored)


async def written(store: Store, events: list[tuple[str, dict[str, Any]]]) -> Admission:
    """A run whose log holds ``events`` behind its run.started."""
    await store.submit(RUN)
    admission = await store.admitted(await store.own(), RUN)
    frames = [numbered(admission, number, *event) for number, event in enumerate(events, start=admission.sequence + 1)]
    await store.attempts.append(admission, frames)
    return admission


async def fill(store: Store) -> None:
    """The log is as large as it may be: all that it holds makes room for one more frame."""
    await store.redis.hset(keys.run(PARTITION, RUN), "log_bytes", 1 << 30)


async def drop_all_but_the_next(store: Store, admission: Admission, sequence: int) -> None:
    await fill(store)
    await store.attempts.append(admission, [numbered(admission, sequence, "usage.updated", {})])


async def snapshot(redis: Redis) -> dict[str, str]:
    call: Any = redis.hgetall(keys.snapshot(PARTITION, RUN))
    return await call


async def said(redis: Redis) -> str | None:
    call: Any = redis.get(keys.said(PARTITION, RUN))
    return await call


async def test_what_the_log_drops_stands_in_the_snapshot(store: Store) -> None:
    admission = await written(
        store,
        [
            ("llm.delta", {"text": "Grüß "}),
            ("llm.delta", {"text": "Gott"}),
            ("tool.called", {"tool_id": "calc", "call_id": "c1", "params": {}}),
            ("tool.called", {"tool_id": "search", "call_id": "c2", "params": {}}),
            ("tool.succeeded", {"tool_id": "calc", "call_id": "c1", "result": 1}),
            ("llm.delta", {"text": "!"}),
        ],
    )
    assert await snapshot(store.redis) == {}

    await drop_all_but_the_next(store, admission, 9)

    assert [frame.sequence for frame in await store.frames(RUN)] == [9]
    assert await said(store.redis) == "Grüß Gott!"
    assert await snapshot(store.redis) == {"sequence": "8", "status": "running", "attempt": "1", "call:c2": "search"}


async def test_an_attempt_begins_with_an_empty_snapshot(store: Store) -> None:
    first = await written(
        store,
        [
            ("llm.delta", {"text": "lost"}),
            ("tool.called", {"tool_id": "calc", "call_id": "c1", "params": {}}),
        ],
    )
    await store.attempts.repair(first.lease, RUN, 1)
    await fill(store)
    second = await store.admitted(first.lease, RUN)
    assert await store.events(RUN) == [(6, 2, "run.started")]
    assert await said(store.redis) == "lost"
    assert await snapshot(store.redis) == {
        "sequence": "5",
        "status": "interrupted",
        "attempt": "1",
        "call:c1": "calc",
    }
    await store.attempts.append(second, [numbered(second, 7, "llm.delta", {"text": "new"})])
    await drop_all_but_the_next(store, second, 8)

    assert await said(store.redis) == "new"
    assert await snapshot(store.redis) == {"sequence": "7", "status": "running", "attempt": "2"}


async def test_of_a_long_text_the_snapshot_keeps_the_end(store: Store) -> None:
    text = "ä" * 300_001
    admission = await written(store, [("llm.delta", {"text": text}), ("llm.delta", {"text": text + "end"})])
    await drop_all_but_the_next(store, admission, 5)

    kept = await said(store.redis)
    assert kept is not None
    assert kept.endswith("end")
    assert set(kept.removesuffix("end")) == {"ä"}, "cut inside a character"
    assert 400_000 < len(kept.encode()) <= 1024 * 1024
    assert (await snapshot(store.redis))["truncated"] == "1"


@pytest.mark.parametrize(
    "spoilt", [b"no JSON", b'{"event": "llm.delta"}', b'{"event": "llm.delta", "payload": 7}', b"7"]
)
async def test_a_frame_that_cannot_be_read_is_dropped_all_the_same(store: Store, spoilt: bytes) -> None:
    admission = await written(store, [])
    await store.attempts.append(admission, [NumberedFrame(3, True, spoilt)])
    await drop_all_but_the_next(store, admission, 4)

    assert await snapshot(store.redis) == {"sequence": "3", "status": "running", "attempt": "1"}


async def test_a_stored_payload_goes_with_its_frame(store: Store) -> None:
    admission = await written(store, [])
    large = json.dumps({"result": "x" * 100_000}).encode()
    kept = numbered(admission, 3, "tool.succeeded", {"call_id": "c1"}, large)
    await store.attempts.append(admission, [kept])
    await store.attempts.append(admission, [kept])
    payloads = keys.payloads(PARTITION, RUN)
    call: Any = store.redis.hgetall(payloads)
    assert await call == {"3": large.decode()}
    assert int(str(await store.redis.hget(keys.run(PARTITION, RUN), "log_bytes"))) > 100_000

    await drop_all_but_the_next(store, admission, 4)

    assert not await store.redis.exists(payloads)


async def test_the_log_of_a_run_is_bounded_in_frames(store: Store) -> None:
    admission = await written(store, [])
    for first in range(3, 10_503, 250):
        batch = [numbered(admission, number, "llm.delta", {"text": "x"}) for number in range(first, first + 250)]
        await store.attempts.append(admission, batch)

    length = await store.redis.xlen(keys.log(PARTITION, RUN))
    counted = await store.redis.hget(keys.run(PARTITION, RUN), "log_bytes")
    call: Any = store.redis.xrange(keys.log(PARTITION, RUN))
    frames = [fields["f"].encode() for _, fields in await call]
    assert length == 10_000
    assert int(str(counted)) == sum(len(data) for data in frames)
    assert len(str(await said(store.redis))) == int((await snapshot(store.redis))["sequence"]) - 2


async def test_what_stands_beside_a_log_goes_when_the_record_does(store: Store) -> None:
    admission = await written(store, [("llm.delta", {"text": "gone"})])
    await drop_all_but_the_next(store, admission, 4)
    await store.redis.hset(keys.run(PARTITION, RUN), "log_bytes", 0)
    await store.attempts.append(admission, [numbered(admission, 5, "tool.succeeded", {}, b'{"result": 1}')])
    await store.finish(admission, 6)

    for key in (keys.snapshot, keys.said, keys.payloads, keys.log):
        left = await store.redis.ttl(key(PARTITION, RUN))
        assert 0 < left <= 24 * 3600, key(PARTITION, RUN)
