"""Dead letters: listed, shown with their history, submitted again."""

from __future__ import annotations

import pytest

from runtime_core.contracts.run import RunState
from runtime_core.errors import InvalidInputError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.dead_letters import DeadLetterStore
from tests.integration.store.conftest import PARTITION, Store

R1 = ScopedRunId("r1")


@pytest.fixture
def dead(store: Store) -> DeadLetterStore:
    return DeadLetterStore(store.redis, store.runs, 1)


async def give_up(store: Store, run: str = "r1") -> None:
    """A run that kills its workers until it is given up on."""
    await store.submit(run, run, metadata={"ticket": 7})
    lease = await store.own(f"{run}.w0")
    for number in range(1, 6):
        await store.admitted(lease, run)
        lease = await store.take_over(lease, f"{run}.w{number}")
    await store.leases.release(lease)


async def test_a_dead_letter_is_listed_and_shown_with_its_history(store: Store, dead: DeadLetterStore) -> None:
    await give_up(store)
    (entry,) = await dead.list()
    assert (entry.run, entry.partition) == (R1, PARTITION)
    assert await dead.list(tenant="another") == []

    letter = await dead.show(R1)
    assert letter.request is not None
    assert letter.request.metadata == {"ticket": 7}
    assert [(one.attempt, one.worker, one.count, one.probation) for one in letter.history] == [
        *((number, f"r1.w{number - 1}", "crashes", False) for number in (1, 2)),
        *((number, f"r1.w{number - 1}", "crashes", True) for number in (3, 4, 5)),
    ]
    assert all(one.ended_ms >= one.started_ms > 0 for one in letter.history)
    assert letter.redriven_as is None
    assert await store.redis.ttl(keys.run(PARTITION, R1)) > 29 * 24 * 3600


async def test_the_newest_come_first(store: Store, dead: DeadLetterStore) -> None:
    for run in ("r1", "r2", "r3"):
        await give_up(store, run)
    assert [entry.run for entry in await dead.list(limit=2)] == ["r3", "r2"]


async def test_a_redriven_run_is_a_new_one_and_a_repeat_finds_it(store: Store, dead: DeadLetterStore) -> None:
    await give_up(store)
    again = await dead.redrive(R1)
    assert again.created
    record = await store.runs.get(again.run)
    assert (record.state, record.session_id, record.crashes) == (RunState.QUEUED, "r1", 0)
    assert (await dead.show(R1)).redriven_as == again.run
    repeat = await dead.redrive(R1)
    assert (repeat.run, repeat.created) == (again.run, False)


async def test_only_a_dead_letter_is_shown_and_redriven(store: Store, dead: DeadLetterStore) -> None:
    await store.submit("r1")
    for verb in (dead.show, dead.redrive):
        with pytest.raises(InvalidInputError, match="no dead letter: it is queued"):
            await verb(R1)


async def test_a_request_that_cannot_be_read_is_shown_all_the_same(store: Store, dead: DeadLetterStore) -> None:
    await give_up(store)
    await store.redis.hset(keys.run(PARTITION, R1), "request", "{")
    assert (await dead.show(R1)).request is None
