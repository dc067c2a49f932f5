"""How many doorbells a worker takes along with one, and what it keeps of their messages."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from runtime_core.doorbell import argsrepr, doorbell
from runtime_core.ids import ScopedRunId
from workers.intake import DoorbellQueues
from workers.transport import Channel

SLOTS = 10


@pytest.mark.parametrize(
    ("executing", "admitting", "wanted"),
    [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 8), (0, 2, 8), (9, 1, 0)],
    ids=["nothing", "it was idle", "one executes", "one more", "two came", "the last slot"],
)
def test_only_a_worker_that_is_busy_looks_for_more_doorbells_than_the_poll_has(
    monkeypatch: pytest.MonkeyPatch, executing: int, admitting: int, wanted: int
) -> None:
    pool: Any = SimpleNamespace(reserved=admitting, num_processes=SLOTS - admitting)
    consumer: Any = SimpleNamespace(task_consumer=SimpleNamespace(channel=SimpleNamespace()))
    monkeypatch.setattr(state, "reserved_requests", [object()] * executing)
    pool.call_on_hub = lambda *_: None
    queues = DoorbellQueues(pool)

    queues.attach(consumer)

    assert consumer.task_consumer.channel.free_slots() == wanted


def test_messages_share_the_texts_that_they_have_in_common() -> None:
    """Of those texts that differ from run to run a message has one of each."""
    delivered: list[dict[str, Any]] = []
    channel: Any = SimpleNamespace(
        connection=SimpleNamespace(_deliver=lambda message, queue: delivered.append(message))
    )
    bell = ""
    for number in range(2):
        run = ScopedRunId(f"run-{number}")
        bell = doorbell(run, queue="runs.p0001", argsrepr=argsrepr("agent", f"session {number}", 5))
        Channel._deliver_or_drop(channel, bell.encode(), "runs.p0001")

    (first, second), plain = delivered, json.loads(bell)
    assert second == plain, "and they say what they said"
    for part in ("headers", "properties"):
        assert all(one is other for one, other in zip(first[part], second[part], strict=True))
    assert first["headers"]["task"] is second["headers"]["task"]
    assert second["headers"]["argsrepr"] is second["properties"]["argsrepr"]
    assert second["headers"]["id"] is second["headers"]["root_id"] is second["properties"]["correlation_id"]
