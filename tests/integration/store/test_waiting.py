"""Runs that wait for a decision or a child: what is asked is kept, what comes wakes them, the first decision counts."""

from __future__ import annotations

import asyncio

import pytest

from runtime_core.contracts.host import Approval, Verdict, decide
from runtime_core.contracts.run import RunRequest, StopReason
from runtime_core.errors import InvalidInputError, LeaseLost, RunConflict, RunNotFound, SessionError
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store.attempts import Admission
from runtime_core.store.connection import connect_sync
from runtime_core.store.leases import Lease, Renewed, renew
from runtime_core.store.runs import CancelOutcome
from runtime_core.store.scripts import run_script
from runtime_core.store.sessions import message_entry, state_entries
from tests.integration.store.conftest import Store
from tests.integration.store.test_steps import entry

R1 = ScopedRunId("r1")


def asked(call_id: str = "c1", *, expires_ms: int = 2**53) -> Approval:
    return Approval(call_id=call_id, tool_id="deploy", params={"to": "prod"}, asked_ms=5, expires_ms=expires_ms)


def child(run_id: str = "child", text: str = "hi", session: str = "s") -> RunRequest:
    return RunRequest(agent_id="b", session_id=session, input_text=text, run_id=run_id, parent_run_id="r1")


async def running(store: Store, lease: Lease | None = None) -> Admission:
    await store.submit("r1")
    return await store.admitted(lease or await store.own(), "r1")


async def woken(store: Store) -> set[str]:
    return await store.redis.smembers("rl:{p0000}:woken")


async def begin(store: Store, parent: Admission, request: RunRequest | None = None) -> Admission:
    admission = await store.attempts.add_child(parent, request or child(), tenant="default")
    assert admission is not None
    return admission


async def test_a_record_says_what_its_run_waits_for_as_long_as_it_does(store: Store) -> None:
    admission = await running(store)
    await store.attempts.wait(admission, "run:child")
    assert (await store.runs.get(R1)).waiting_for == "run:child"
    await store.attempts.wait(admission, "")
    assert (await store.runs.get(R1)).waiting_for is None


async def test_a_later_attempt_finds_what_was_asked_and_what_was_decided(store: Store) -> None:
    lease = await store.own("w1")
    first = await running(store, lease)
    assert await store.attempts.wait(first, "approval:c1", asked=asked()) == (False, asked())
    await store.approvals.decide(R1, "c1", decision := decide("allow", "fine"))

    second = await store.admitted(await store.take_over(lease, "w2"), "r1")
    assert (await store.runs.get(R1)).waiting_for is None
    later = asked().model_copy(update={"asked_ms": 7, "expires_ms": 11})
    _, found = await store.attempts.wait(second, "approval:c1", asked=later)

    assert found == asked().model_copy(update={"decision": decision})
    assert await store.approvals.list(R1) == [found]


async def test_a_decision_wakes_its_run_by_the_next_renewal(store: Store, redis_url: str) -> None:
    admission = await running(store)
    await store.attempts.wait(admission, "approval:c1", asked=asked())
    await store.approvals.decide(R1, "c1", decide("deny"))

    client = connect_sync(redis_url)
    renewed = await asyncio.to_thread(renew, client, [admission.lease])
    client.close()

    assert renewed == [Renewed(cancels=[], woken=[R1])]
    await store.attempts.wait(admission, "")
    assert await woken(store) == set()


async def test_the_first_decision_counts(store: Store) -> None:
    admission = await running(store)
    await store.attempts.wait(admission, "approval:c1", asked=asked())
    await store.approvals.decide(R1, "c1", decide("deny", "not on a Friday"))

    with pytest.raises(RunConflict, match="decided before: deny"):
        await store.approvals.decide(R1, "c1", decide("allow"))

    (approval,) = await store.approvals.list(R1)
    assert approval.decision is not None
    assert (approval.decision.verdict, approval.decision.reason) == (Verdict.DENY, "not on a Friday")


async def test_a_decision_that_nobody_asked_for_is_refused(store: Store) -> None:
    admission = await running(store)
    await store.attempts.wait(admission, "approval:call-1", asked=asked("call-1"))
    with pytest.raises(InvalidInputError) as refused:
        await store.approvals.decide(R1, "call-2", decide("allow"))
    assert refused.value.hint is not None
    assert "call-1" in refused.value.hint
    with pytest.raises(RunNotFound):
        await store.approvals.decide(ScopedRunId("nobody"), "call-1", decide("allow"))
    await store.finish(admission, admission.sequence + 1)
    with pytest.raises(RunConflict, match="has finished"):
        await store.approvals.decide(R1, "call-1", decide("allow"))


async def test_what_has_expired_may_be_denied_and_not_allowed(store: Store) -> None:
    admission = await running(store)
    await store.attempts.wait(admission, "approval:c1", asked=asked(expires_ms=9))
    with pytest.raises(RunConflict, match="counts as denied"):
        await store.approvals.decide(R1, "c1", decide("allow"))
    await store.approvals.decide(R1, "c1", decide("deny", "nobody decided in time"))


async def test_a_waiting_run_hears_of_a_cancel_and_of_its_lost_lease(store: Store) -> None:
    admission = await running(store)
    await store.runs.cancel(R1)
    assert await store.attempts.wait(admission, "run:child") == (True, None)
    await store.take_over(admission.lease, "w2")
    with pytest.raises(LeaseLost):
        await store.attempts.wait(admission, "")


async def test_an_attempt_that_was_repaired_waits_no_more(store: Store) -> None:
    first = await running(store)
    await store.attempts.repair(first.lease, R1, 1)
    with pytest.raises(LeaseLost):
        await store.attempts.wait(first, "run:child")
    with pytest.raises(LeaseLost):
        await begin(store, first)


async def test_the_end_of_a_child_wakes_the_parent_that_waits(store: Store) -> None:
    parent = await running(store)
    await store.runs.submit(child(session="another"))
    await store.attempts.wait(parent, "run:child")
    await store.finish(await store.admitted(parent.lease, "child"), 3)
    assert await woken(store) == {"r1"}


async def test_the_end_of_a_child_of_a_parent_that_does_not_wait_wakes_nobody(store: Store) -> None:
    parent = await running(store)
    await store.runs.submit(child(session="another"))
    await store.finish(await store.admitted(parent.lease, "child"), 3)
    assert await woken(store) == set()


async def test_a_child_in_its_parents_session_has_a_record_and_no_doorbell(store: Store) -> None:
    parent = await running(store)
    bells = await store.bells()

    within = await begin(store, parent)

    record = await store.runs.get(within.run)
    assert (record.state, record.attempt, record.session_id, record.agent_id) == ("running", 1, "s", "b")
    assert [event for _, _, event in await store.events("child")] == ["run.queued", "run.started"]
    assert await store.bells() == bells
    await store.attempts.stage(within, 0, [entry("of the child")])
    await store.finish(within, within.sequence + 1)
    assert [message["of"] for message in await store.sessions.messages(SessionKey("default/s"))] == ["of the child"]
    assert (await store.runs.get(R1)).state == "running"
    await store.submit("behind")
    await store.finish(parent, parent.sequence + 1)
    assert await store.bells() == [*bells, "behind"]


async def test_the_next_attempt_of_the_parent_adopts_the_child_that_was_cut(store: Store) -> None:
    lease = await store.own("w1")
    within = await begin(store, await running(store, lease))
    await store.attempts.stage(within, 0, [entry("of an attempt that ended")])
    second = await store.admitted(await store.take_over(lease, "w2"), "r1")

    adopted = await begin(store, second)

    assert (adopted.attempt, adopted.sequence) == (2, 4)
    with pytest.raises(LeaseLost):
        await store.finish(within, within.sequence + 1)
    await store.finish(adopted, adopted.sequence + 1)
    assert await store.sessions.messages(SessionKey("default/s")) == []
    assert await store.attempts.add_child(second, child(), tenant="default") is None


async def test_a_child_is_cut_when_its_parent_is_and_waits_for_the_next_attempt_with_it(store: Store) -> None:
    lease = await store.own("w1")
    parent = await running(store, lease)
    outer = await begin(store, parent)
    inner = await begin(store, outer, child("grandchild").model_copy(update={"parent_run_id": "child"}))
    await store.attempts.wait(inner, "approval:c1", asked=asked())

    await store.take_over(lease, "w2")

    for run in ("r1", "child", "grandchild"):
        assert [event for _, _, event in await store.events(run)][-1] == "run.interrupted"
        record = await store.runs.get(ScopedRunId(run))
        assert (record.state, record.waiting_for) == ("queued", None)
    assert await store.bells() == ["r1"]
    assert await store.runs.cancel(ScopedRunId("grandchild")) is CancelOutcome.CANCELLED


async def test_an_adopted_child_goes_on_behind_its_last_step(store: Store) -> None:
    lease = await store.own("w1")
    within = await begin(store, await running(store, lease))
    await store.attempts.stage(within, 0, [entry("kept")])
    await store.attempts.step(within, "1", "delta")
    await store.attempts.stage(within, 1, [entry("of an attempt that ended")])
    second = await store.admitted(await store.take_over(lease, "w2"), "r1")

    adopted = await begin(store, second)

    assert (adopted.staged, adopted.steps) == (1, {"1": "delta"})
    assert await begin(store, second) == adopted, "also when the answer was lost"
    await store.finish(adopted, adopted.sequence + 1)
    assert [message["of"] for message in await store.sessions.messages(SessionKey("default/s"))] == ["kept"]


async def test_a_child_that_waited_for_its_parent_ends_with_it(store: Store) -> None:
    lease = await store.own("w1")
    await begin(store, await running(store, lease))
    second = await store.admitted(await store.take_over(lease, "w2"), "r1")
    await store.finish(second, second.sequence + 1)
    assert (await store.runs.get(ScopedRunId("child"))).status is StopReason.CANCELLED


async def test_beginning_a_child_twice_in_one_attempt_is_beginning_it_once(store: Store) -> None:
    parent = await running(store)
    assert (await begin(store, parent)).attempt == (await begin(store, parent)).attempt == 1


async def test_the_id_of_another_run_is_no_child(store: Store) -> None:
    parent = await running(store)
    await store.submit("child", "elsewhere")
    with pytest.raises(RunConflict):
        await begin(store, parent)


async def test_no_child_outlives_the_run_that_it_executes_within(store: Store) -> None:
    parent = await running(store)
    await begin(store, parent)
    await store.finish(parent, parent.sequence + 1, StopReason.TIMEOUT)
    record = await store.runs.get(ScopedRunId("child"))
    assert (record.state, record.status) == ("finished", StopReason.CANCELLED)


async def test_an_edit_that_is_repeated_is_made_once(store: Store) -> None:
    target = SessionKey("default/fork")
    for _ in range(2):  # as redis-py does when the reply is lost
        assert await run_script(store.redis, "edit", 0, "this one", target, 1, entry("the source")) == ["OK"]
    assert len(await store.sessions.messages(target)) == 1
    assert 0 < await store.redis.ttl("rl:{p0000}:edit:this one") <= 300


async def test_the_children_of_a_child_that_ends_with_its_parent_are_cancelled(store: Store) -> None:
    parent = await running(store)
    await begin(store, parent)
    await store.runs.submit(
        RunRequest(agent_id="c", session_id="g", input_text="hi", run_id="grandchild", parent_run_id="child")
    )
    await store.attempts.repair(parent.lease, R1, 1)
    await store.runs.cancel(R1)
    assert (await store.runs.get(ScopedRunId("grandchild"))).status is StopReason.CANCELLED


async def test_a_fork_begins_only_where_nothing_is_kept(store: Store) -> None:
    target = SessionKey("default/fork")
    entries = [message_entry({"of": "the source"}), *state_entries({}, {"n": 1})]
    await store.sessions.edit(target, entries, new=True)
    assert await store.sessions.state(target) == {"n": 1}
    with pytest.raises(SessionError, match="exists"):
        await store.sessions.edit(target, entries, new=True)
    assert len(await store.sessions.messages(target)) == 1
