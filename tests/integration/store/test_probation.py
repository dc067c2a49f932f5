"""Runs that may be killing their workers: suspected, watched, given up on, without blame for those beside them."""

from __future__ import annotations

from typing import Any

from runtime_core.contracts.run import RunState, StopReason
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, Refusal, RefusalReason
from runtime_core.store.leases import Lease
from runtime_core.store.timing import LEASE_TTL_MS
from tests.integration.store.conftest import PARTITION, Store

POISON, INNOCENT, OTHER = ScopedRunId("poison"), ScopedRunId("innocent"), ScopedRunId("other")


async def put(store: Store, run: str, **fields: Any) -> None:
    await store.redis.hset(keys.run(PARTITION, ScopedRunId(run)), mapping=fields)


async def suspects(store: Store, *runs: str, crashes: int = 2, charges: int = 0) -> None:
    """Queued runs, each in a session of its own, that crashed before."""
    for run in runs:
        await store.submit(run, run)
        await put(store, run, crashes=crashes, charges=charges)


async def refused(store: Store, lease: Lease, run: str) -> RefusalReason:
    answer = await store.admit(lease, run)
    assert isinstance(answer, Refusal), answer
    return answer.reason


async def test_a_run_is_in_probation_from_its_third_attempt_on(store: Store) -> None:
    await store.submit(POISON)
    lease = await store.own("w0")
    for number in (1, 2):
        await store.admitted(lease, POISON)
        assert not await store.redis.exists(keys.probation(lease.owner.partition("#")[0]))
        lease = await store.take_over(lease, f"w{number}")
    await store.admitted(lease, POISON)
    assert await store.redis.hkeys(keys.probation("w2")) == [POISON]
    assert 0 < await store.redis.ttl(keys.probation("w2")) <= 60


async def test_a_crash_is_charged_to_those_in_probation_alone_over_all_partitions(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, POISON)
    await store.submit(INNOCENT, "s2")
    await store.admitted(lease, POISON)
    await store.admitted(lease, INNOCENT)
    elsewhere = await store.leases.acquire(1, "w1#elsewhere")
    assert elsewhere is not None

    await store.take_over(lease, "w2")

    poison, innocent = await store.runs.get(POISON), await store.runs.get(INNOCENT)
    assert (poison.crashes, poison.charges, poison.spared) == (3, 1, 0)
    assert (innocent.crashes, innocent.charges, innocent.spared) == (0, 0, 1)
    assert innocent.state is RunState.QUEUED
    # The takeover of the worker's other partitions is to come: they must know, too.
    assert await store.redis.hkeys(keys.probation("w1")) == [POISON]


async def test_of_those_in_probation_one_that_has_executed_for_long_is_spared(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, INNOCENT, POISON)
    for run in (INNOCENT, POISON):
        await store.admitted(lease, run)
    await store.redis.hset(keys.probation("w1"), INNOCENT, f"{await store.now_ms() - LEASE_TTL_MS - 5_000}:0")

    await store.take_over(lease, "w2")

    poison, innocent = await store.runs.get(POISON), await store.runs.get(INNOCENT)
    assert (poison.charges, innocent.charges, innocent.spared) == (1, 0, 1)


async def test_if_all_in_probation_have_executed_for_long_each_is_charged(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, INNOCENT, POISON)
    for run in (INNOCENT, POISON):
        await store.admitted(lease, run)
        await store.redis.hset(keys.probation("w1"), run, f"{await store.now_ms() - 60_000}:0")

    await store.take_over(lease, "w2")

    poison, innocent = await store.runs.get(POISON), await store.runs.get(INNOCENT)
    assert (poison.charges, innocent.charges) == (1, 1)


async def test_the_last_charge_leaves_the_suspicion_for_the_other_partitions(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, POISON, crashes=4, charges=2)
    await store.admitted(lease, POISON)
    await store.take_over(lease, "w2")
    assert (await store.runs.get(POISON)).status is StopReason.DEAD_LETTER
    assert await store.redis.hkeys(keys.probation("w1")) == [POISON]


async def test_without_probation_every_run_of_a_dead_worker_counts_a_crash(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit(INNOCENT, "s1")
    await store.submit(OTHER, "s2")
    for run in (INNOCENT, OTHER):
        await store.admitted(lease, run)
    await store.take_over(lease, "w2")
    assert [(await store.runs.get(run)).crashes for run in (INNOCENT, OTHER)] == [1, 1]


async def test_suspects_execute_together_and_one_with_its_last_chance_alone(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, "a")
    await suspects(store, "b", crashes=3, charges=1)
    await suspects(store, "charged", "charged-too", crashes=4, charges=2)
    await store.submit(INNOCENT, "s")
    for run in ("a", "b", INNOCENT):
        await store.admitted(lease, run)
    assert await refused(store, lease, "charged") is RefusalReason.PROBATION
    for run in ("a", "b"):
        await store.attempts.repair(lease, ScopedRunId(run), 1)  # leaves probation
    await store.admitted(lease, "charged")
    assert await refused(store, lease, "charged-too") is RefusalReason.PROBATION
    assert await refused(store, lease, "a") is RefusalReason.PROBATION


async def test_nothing_starts_beside_a_run_with_its_last_chance_while_it_is_fresh(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, "charged", crashes=4, charges=2)
    await store.submit(INNOCENT, "s")
    await store.admitted(lease, "charged")
    assert await refused(store, lease, INNOCENT) is RefusalReason.PROBATION
    await store.attempts.repair(lease, ScopedRunId("charged"), 1)  # leaves probation
    await store.admitted(lease, INNOCENT)


async def test_a_run_that_was_spared_is_a_suspect_from_then_on(store: Store) -> None:
    """Else a run that kills its workers would hide behind innocent ones in probation, and be spared for ever."""
    lease = await store.own("w1")
    await suspects(store, INNOCENT)
    await store.submit(POISON)
    await store.admitted(lease, INNOCENT)
    await store.admitted(lease, POISON)

    lease = await store.take_over(lease, "w2")
    assert (await store.runs.get(POISON)).spared == 1
    await store.admitted(lease, POISON)
    assert await store.redis.hkeys(keys.probation("w2")) == [POISON]
    await store.take_over(lease, "w3")

    poison, innocent = await store.runs.get(POISON), await store.runs.get(INNOCENT)
    assert (poison.charges, innocent.charges) == (1, 1)


async def test_a_run_with_its_last_chance_shares_its_worker_when_its_death_is_known_to_be_late(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, "charged", "charged-too", crashes=4, charges=2)
    await store.admitted(lease, "charged")
    now_ms = await store.now_ms()
    await store.redis.hset(keys.probation("w1"), "charged", f"{now_ms - 5_500}:2")
    assert await refused(store, lease, "charged-too") is RefusalReason.PROBATION
    await store.redis.hset(keys.probation("w1"), "charged", f"{now_ms - 6_500}:2")
    await store.admitted(lease, "charged-too")


async def test_a_run_that_waits_for_its_turn_in_probation_is_rung_again_soon(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, "charged", "charged-too", crashes=4, charges=2)
    await store.admitted(lease, "charged")
    for _ in range(3):
        assert await refused(store, lease, "charged-too") is RefusalReason.PROBATION
        seconds, micros = await store.redis.time()
        due = await store.redis.zscore(f"{keys.prefix(PARTITION)}ready", "default/charged-too")
        assert 0 < due - (seconds * 1000 + micros / 1000) <= 500


async def test_probation_ends_with_the_attempt(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, "a", "b", "c")
    finished, handed_over, interrupted = [await store.admitted(lease, run) for run in ("a", "b", "c")]
    assert isinstance(finished, Admission)
    await store.finish(finished, finished.sequence + 1)
    assert set(await store.redis.hkeys(keys.probation("w1"))) == {"b", "c"}
    await store.attempts.repair(lease, interrupted.run, interrupted.attempt)
    assert await store.redis.hkeys(keys.probation("w1")) == ["b"]
    await store.leases.release(lease)
    assert await store.redis.hkeys(keys.probation("w1")) == []
    assert (await store.runs.get(handed_over.run)).charges == 0


async def test_eight_crashes_end_a_run_that_was_never_charged(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, POISON, crashes=7)
    await store.admitted(lease, POISON)
    await store.redis.hset(keys.probation("w1"), "someone else", "1:0")
    await store.redis.hdel(keys.probation("w1"), POISON)
    lease = await store.take_over(lease, "w2")
    assert (await store.runs.get(POISON)).state is RunState.QUEUED  # spared
    await store.admitted(lease, POISON)
    await store.redis.delete(keys.probation("w2"))
    await store.take_over(lease, "w3")
    record = await store.runs.get(POISON)
    assert (record.status, record.crashes) == (StopReason.DEAD_LETTER, 8)


async def waiting(store: Store, lease: Lease, run: str, *, for_ms: int = LEASE_TTL_MS + 6_000) -> None:
    """A run that began an attempt so long ago, and waits for its child."""
    admission = await store.admitted(lease, run)
    await store.attempts.wait(admission, "run:child")
    began = await store.now_ms() - for_ms
    await put(store, run, started_ms=began)
    await store.redis.hset(keys.probation("w1"), run, f"{began}:0")


async def test_a_run_that_only_waited_is_not_to_blame_for_the_death_of_its_worker(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, INNOCENT, OTHER)
    await store.submit(POISON)
    await waiting(store, lease, INNOCENT)
    await waiting(store, lease, OTHER, for_ms=LEASE_TTL_MS)
    await store.admitted(lease, POISON)

    await store.take_over(lease, "w2")

    counted = {run: (await store.runs.get(run)) for run in (INNOCENT, OTHER, POISON)}
    assert (counted[INNOCENT].crashes, counted[INNOCENT].charges, counted[INNOCENT].handovers) == (2, 0, 1)
    assert (counted[OTHER].charges, counted[OTHER].handovers) == (1, 0), "it had just begun: it may have done more"
    assert (counted[POISON].crashes, counted[POISON].spared) == (0, 1)


async def test_beside_runs_that_wait_in_probation_nobody_is_spared(store: Store) -> None:
    lease = await store.own("w1")
    await suspects(store, INNOCENT)
    await store.submit(POISON)
    await waiting(store, lease, INNOCENT)
    await store.admitted(lease, POISON)
    await store.take_over(lease, "w2")
    assert (await store.runs.get(POISON)).crashes == 1


async def test_a_run_that_only_waited_is_not_interrupted_by_the_loss_of_its_lease(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit(INNOCENT)
    await waiting(store, lease, INNOCENT)
    await store.leases.heartbeat("w1", {}, accepting=True)
    await store.take_over(lease, "w2")
    record = await store.runs.get(INNOCENT)
    assert (record.interruptions, record.handovers) == (0, 1)
