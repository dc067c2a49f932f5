"""admit, append, stage, finish: what the owner of a partition may do with a run, and in which order."""

from __future__ import annotations

import json

import pytest

from runtime_core.contracts.frame import Frame, RunIds, decode_frame, encode_frame
from runtime_core.contracts.run import RunState, StopReason
from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId, session_key
from runtime_core.store.attempts import Admission, NumberedFrame, Refusal, RefusalReason
from runtime_core.store.runs import CancelOutcome
from runtime_core.store.sessions import message_entry, state_entries
from tests.integration.store.conftest import Store, frame

SESSION = session_key("default", "s")


async def test_a_run_goes_from_submit_to_finish_and_rings_the_next(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.submit("r2")

    admission = await store.admitted(lease, "r1")
    assert (admission.attempt, admission.sequence, admission.session) == (1, 2, SESSION)
    assert json.loads(admission.request)["input_text"] == "hi"
    assert not await store.attempts.append(admission, [NumberedFrame(3, True, frame(admission, 3, "llm.delta"))])
    await store.finish(admission, 4)

    record = await store.runs.get(ScopedRunId("r1"))
    assert (record.state, record.status, record.worker) == (RunState.FINISHED, StopReason.COMPLETED, "w1")
    assert await store.events("r1") == [
        (1, 0, "run.queued"),
        (2, 1, "run.started"),
        (3, 1, "llm.delta"),
        (4, 1, "run.finished"),
    ]
    assert await store.bells() == ["r1", "r2"]


async def test_admit_refuses_what_is_not_next(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.submit("r2")

    async def reason(run: str) -> RefusalReason:
        refusal = await store.admit(lease, run)
        assert isinstance(refusal, Refusal)
        return refusal.reason

    assert await reason("r2") is RefusalReason.NOT_HEAD
    assert await reason("nobody") is RefusalReason.GONE
    admission = await store.admitted(lease, "r1")
    assert await reason("r1") is RefusalReason.DUPLICATE
    await store.finish(admission, admission.sequence + 1)
    assert await reason("r1") is RefusalReason.FINISHED


async def test_the_same_delivery_gets_the_same_answer_again(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    first = await store.admit(lease, "r1", nonce="delivery")
    assert await store.admit(lease, "r1", nonce="delivery") == first
    assert isinstance(first, Admission)


async def test_one_doorbell_reports_a_run_that_no_attempt_ended(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.runs.cancel(ScopedRunId("r1"))

    reported = await store.admit(lease, "r1", nonce="first")
    repeated = await store.admit(lease, "r1", nonce="first")
    second = await store.admit(lease, "r1", nonce="second")

    assert isinstance(reported, Refusal)
    assert isinstance(second, Refusal)
    assert (reported.reason, reported.announce) == (RefusalReason.FINISHED, StopReason.CANCELLED)
    assert repeated == reported
    assert second.announce is None


async def test_a_batch_is_stored_once_however_often_it_is_sent(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    batch = [
        NumberedFrame(3, True, frame(admission, 3, "tool.called")),
        NumberedFrame(4, True, frame(admission, 4, "llm.delta", "x")),
    ]

    await store.attempts.append(admission, batch)
    await store.attempts.append(admission, batch)
    assert [sequence for sequence, _, _ in await store.events("r1")] == [1, 2, 3, 4]

    with pytest.raises(RunlaneError, match="MISMATCH"):
        await store.attempts.append(admission, [NumberedFrame(4, True, frame(admission, 4, "llm.delta", "other"))])
    with pytest.raises(RunlaneError, match="GAP"):
        await store.attempts.append(admission, [NumberedFrame(9, True, frame(admission, 9, "llm.delta"))])
    with pytest.raises(RunlaneError, match="GAP"):
        await store.finish(admission, 9)


async def test_session_writes_appear_once_when_the_run_finishes(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    entries = [json.dumps(message_entry({"role": "user"})), *map(json.dumps, state_entries({}, {"n": 1}))]

    await store.attempts.stage(admission, 0, entries)
    await store.attempts.stage(admission, 0, entries)
    assert await store.sessions.messages(SESSION) == []
    await store.finish(admission, admission.sequence + 1)
    await store.finish(admission, admission.sequence + 1)

    assert await store.sessions.messages(SESSION) == [{"role": "user"}]
    assert await store.sessions.state(SESSION) == {"n": 1}


async def test_staged_entries_that_skip_an_index_are_refused(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    with pytest.raises(RunlaneError, match="GAP"):
        await store.attempts.stage(admission, 1, [json.dumps(message_entry({"role": "user"}))])


async def test_an_executing_session_is_not_ready_and_a_finished_one_leaves_no_counts(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    assert await store.redis.exists("rl:{p0000}:ready") == 0
    await store.finish(admission, admission.sequence + 1)
    counts = await store.redis.hgetall("rl:{p0000}:stats")
    assert int(counts.pop("run_ms")) < 60_000
    assert counts == {"submitted": "1", "pending": "0", "finished": "1"}
    left = {key async for key in store.redis.scan_iter("rl:{p0000}:*")}
    assert not left & {f"rl:{{p0000}}:{name}" for name in ("ready", "live", "cancels", "mailbox:default/s")}


async def test_a_held_session_stays_silent_when_its_next_run_is_cancelled(store: Store) -> None:
    lease = await store.own()
    for run in ("r1", "r2", "r3"):
        await store.submit(run)
    await store.finish(await store.admitted(lease, "r1"), 3, hold_session=True)
    await store.runs.cancel(ScopedRunId("r2"))
    assert await store.bells() == ["r1"]


async def test_a_later_attempt_starts_with_nothing_staged(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    first = await store.admitted(lease, "r1")
    await store.attempts.stage(first, 0, [json.dumps(message_entry({"of": "first"}))])
    await store.leases.release(lease)

    second = await store.admitted(await store.own("w2"), "r1")
    await store.attempts.stage(second, 0, [json.dumps(message_entry({"of": "second"}))])
    await store.finish(second, second.sequence + 1)

    assert await store.sessions.messages(SESSION) == [{"of": "second"}]


async def test_a_held_session_goes_on_when_the_code_has_ended(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.submit("r2")
    admission = await store.admitted(lease, "r1")

    await store.finish(admission, admission.sequence + 1, StopReason.TIMEOUT, hold_session=True)
    assert await store.bells() == ["r1"]
    held = await store.admit(lease, "r2")
    assert isinstance(held, Refusal)
    assert held.reason is RefusalReason.BUSY

    await store.attempts.free_session(admission)
    await store.attempts.free_session(admission)
    assert await store.bells() == ["r1", "r2"]
    await store.admitted(lease, "r2")


async def test_a_takeover_frees_a_held_session(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    await store.submit("r2")
    await store.finish(await store.admitted(lease, "r1"), 3, hold_session=True)

    await store.admitted(await store.take_over(lease, "w2"), "r2")


async def test_a_cancel_reaches_the_running_attempt_with_its_next_write(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")

    assert await store.runs.cancel(ScopedRunId("r1")) is CancelOutcome.CANCELLING
    assert await store.attempts.append(admission, [NumberedFrame(3, True, frame(admission, 3, "llm.delta"))])

    await store.finish(admission, 4, StopReason.CANCELLED)
    assert await store.redis.exists("rl:{p0000}:cancels") == 0


async def test_session_edits_wait_for_the_end_of_a_run(store: Store) -> None:
    await store.submit("r1")
    with pytest.raises(RunlaneError, match="unfinished run"):
        await store.sessions.edit(SESSION, [message_entry({"role": "user"})])
    with pytest.raises(RunlaneError, match="unfinished run"):
        await store.sessions.delete(SESSION)
    await store.runs.cancel(ScopedRunId("r1"))

    await store.sessions.edit(SESSION, [message_entry({"role": "user"})])
    assert await store.sessions.messages(SESSION) == [{"role": "user"}]
    assert await store.sessions.known("default") == [SESSION]
    other = session_key("default", "never ran")
    await store.sessions.edit(other, [message_entry({"role": "user"})])
    assert await store.sessions.known("default") == [other, SESSION]
    await store.sessions.delete(SESSION)
    assert await store.sessions.messages(SESSION) == []


async def test_a_finished_run_leaves_no_key_without_an_end(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    await store.attempts.stage(admission, 0, [json.dumps(message_entry({"role": "user"}))])
    await store.finish(admission, admission.sequence + 1)
    await store.redis.delete("runs.p0000")

    endless = {key async for key in store.redis.scan_iter("*") if await store.redis.ttl(key) < 0}
    assert endless == {"rl:meta", "rl:{p0000}:lease", "rl:{p0000}:stats", "rl:{p0000}:recent"}


async def test_frames_composed_by_scripts_are_those_that_python_encodes(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1", 'sé"s\\ \n@TAG@', parent_run_id="p1")
    await store.admitted(lease, "r1")
    await store.take_over(lease, "w2")
    await store.runs.cancel(ScopedRunId("r1"))

    raw = [fields["f"] for _, fields in await store.redis.xrange("rl:{p0000}:log:r1")]
    frames = [decode_frame(text) for text in raw]
    assert [frame.event for frame in frames] == ["run.queued", "run.started", "run.interrupted", "run.finished"]
    ids = RunIds(run_id="r1", session_id='sé"s\\ \n@TAG@', agent_id="a", parent_run_id="p1")
    assert [frame.ids for frame in frames] == [ids] * 4
    composed = [("run.started", {}), ("run.interrupted", {"reason": "worker w1 died"})]
    for index, (event, payload) in enumerate(composed, start=1):
        assert raw[index].encode() == encode_frame(
            Frame(
                logged=True,
                sequence=index + 1,
                attempt=1,
                event=event,
                timestamp_ms=frames[index].timestamp_ms,
                ids=ids,
                config_version=1,
                payload=payload,
            )
        )


async def test_the_log_of_a_run_is_bounded_in_bytes(store: Store) -> None:
    lease = await store.own()
    await store.submit("r1")
    admission = await store.admitted(lease, "r1")
    for sequence in range(3, 15):
        await store.attempts.append(
            admission, [NumberedFrame(sequence, True, frame(admission, sequence, "llm.delta", "x" * 1_000_000))]
        )

    kept = await store.frames("r1")
    assert kept[-1].sequence == 14
    assert sum(len(encode_frame(frame)) for frame in kept) <= 8 * 1024 * 1024
