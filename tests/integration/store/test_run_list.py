"""Lists of runs, the story of one, and sessions; whatever their keys hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runtime_core.contracts.run import ErrorDetails, RunRequest, RunState, StopReason
from runtime_core.contracts.run_story import ALL_RUNS, RunFilter
from runtime_core.errors import RunlaneError, RunNotFound, SessionNotFound
from runtime_core.ids import ScopedRunId, SessionKey, scoped_run_id, session_key
from runtime_core.store import keys
from runtime_core.store.run_list import RunLister
from runtime_core.store.run_stories import read_story
from runtime_core.store.session_list import SessionLister
from tests.integration.store.conftest import PARTITION, Store
from tests.integration.store.world import ENTRIES


async def listed(store: Store, which: RunFilter = ALL_RUNS, *, limit: int = 50, tenant: str = "default") -> list[str]:
    found = await RunLister(store.redis, 1).list(tenant, which, limit=limit)
    return [row.run_id for row in found.rows]


async def some_runs(store: Store) -> None:
    """done (completed), bad (failed, of agent b), running, behind it, queued; each a millisecond or more later."""
    lease = await store.own()
    clock = 1_000
    for run, session, agent in (("done", "a", "a"), ("bad", "b", "b")):
        await store.submit(run, session, agent_id=agent)
        status = StopReason.COMPLETED if run == "done" else StopReason.FAILED
        await store.finish(await store.admitted(lease, run), 3, status)
    for run, session in (("running", "c"), ("behind", "c"), ("queued", "d")):
        await store.submit(run, session)
    await store.admitted(lease, "running")
    for run in ("done", "bad", "running", "behind", "queued"):
        clock += 1_000
        for name in ("submitted_ms", "started_ms", "finished_ms"):
            if await store.redis.hexists(keys.run(PARTITION, ScopedRunId(run)), name):
                await store.redis.hset(keys.run(PARTITION, ScopedRunId(run)), name, clock)


FILTERS: Sequence[tuple[dict[str, Any], list[str]]] = [
    ({}, ["queued", "behind", "running", "bad", "done"]),
    ({"state": RunState.QUEUED}, ["queued", "behind"]),
    ({"state": RunState.RUNNING}, ["running"]),
    ({"state": RunState.FINISHED}, ["bad", "done"]),
    ({"status": StopReason.FAILED}, ["bad"]),
    ({"agent_id": "b"}, ["bad"]),
    ({"session_id": "c"}, ["behind", "running"]),
    ({"session_id": "a"}, ["done"]),
    ({"session_id": "a", "agent_id": "b"}, []),
    ({"state": RunState.QUEUED, "since_ms": 5_500}, ["queued"]),
]


async def test_runs_that_execute_within_another_are_listed_while_they_do(store: Store) -> None:
    lease = await store.own()
    await store.submit("parent", "s")
    parent = await store.admitted(lease, "parent")

    def child(run_id: str) -> RunRequest:
        return RunRequest(agent_id="b", session_id="s", input_text="x", run_id=run_id, parent_run_id="parent")

    within = await store.attempts.add_child(parent, child("child"), tenant="default")
    assert within is not None
    grandchild = await store.attempts.add_child(within, child("grandchild"), tenant="default")
    assert grandchild is not None
    for which in (ALL_RUNS, RunFilter(session_id="s"), RunFilter(state=RunState.RUNNING)):
        assert sorted(await listed(store, which)) == ["child", "grandchild", "parent"]

    await store.finish(grandchild, grandchild.sequence + 1)

    assert sorted(await listed(store, RunFilter(state=RunState.RUNNING))) == ["child", "parent"]
    assert sorted(await listed(store)) == ["child", "grandchild", "parent"]


async def test_runs_are_listed_newest_first_and_filtered(store: Store) -> None:
    await some_runs(store)
    for fields, runs in FILTERS:
        assert await listed(store, RunFilter(**fields)) == runs, fields
    assert await listed(store, limit=2) == ["queued", "behind"]
    assert await listed(store, tenant="another") == []
    ended = RunState.FINISHED
    assert await listed(store, RunFilter(state=ended, agent_id="a"), limit=1) == ["done"], "found behind another's"
    assert await listed(store, RunFilter(status=StopReason.COMPLETED), limit=1) == ["done"]


async def test_a_run_id_that_was_used_again_is_listed_once(store: Store) -> None:
    await some_runs(store)
    for run in ("queued", "done"):  # their first runs ended two days ago, say
        values = {"run": run, "session": "default/d", "agent": "a", "status": "completed", "finished_ms": 1}
        await store.redis.xadd(keys.recent(PARTITION), values)
    assert await listed(store) == ["queued", "behind", "running", "bad", "done"]


async def test_a_refused_request_is_listed_as_a_failed_run(store: Store) -> None:
    error = ErrorDetails(code="user.invalid_input", message="no")
    await store.runs.refuse(tenant="default", run_id="r", session_id="s", agent_id="a", error=error)
    assert await listed(store, RunFilter(status=StopReason.FAILED, agent_id="a", session_id="s")) == ["r"]


async def test_a_run_of_another_tenant_is_not_listed(store: Store) -> None:
    lease = await store.own()
    for tenant in ("default", "t1"):
        await store.runs.submit(_request("same"), tenant=tenant)
        await store.admitted(lease, scoped_run_id(tenant, "same"))
    found = await RunLister(store.redis, 1).list("t1", ALL_RUNS, limit=50)
    assert [(row.run_id, row.record and row.record.tenant) for row in found.rows] == [("same", "t1")]


def _request(run_id: str) -> RunRequest:
    return RunRequest(agent_id="a", session_id="s", input_text="hi", run_id=run_id)


async def test_pages_of_ended_runs_are_read_until_enough_of_them_pass(store: Store) -> None:
    lease = await store.own()
    await store.submit("wanted", "s", agent_id="rare")
    await store.finish(await store.admitted(lease, "wanted"), 3)
    pipeline = store.redis.pipeline(transaction=False)
    for number in range(350):
        values = {"run": f"t1/r{number}", "session": "t1/s", "agent": "a", "status": "completed", "finished_ms": "1"}
        pipeline.xadd(keys.recent(PARTITION), values)
    await pipeline.execute()
    assert await listed(store, limit=1) == ["wanted"]


async def test_a_run_whose_record_has_expired_is_left_out(store: Store) -> None:
    await some_runs(store)
    await store.redis.delete(keys.run(PARTITION, ScopedRunId("done")))
    assert await listed(store, RunFilter(state=RunState.FINISHED)) == ["bad"]


async def test_the_ends_that_a_partition_remembers_are_bounded(store: Store) -> None:
    lease = await store.own()
    pipeline = store.redis.pipeline(transaction=False)
    for number in range(3_000):
        pipeline.xadd(keys.recent(PARTITION), {"run": f"r{number}"})
    await pipeline.execute()
    await store.submit("r")
    await store.finish(await store.admitted(lease, "r"), 3)
    assert await store.redis.xlen(keys.recent(PARTITION)) <= 1_100, "Redis trims whole nodes of 100"


async def test_more_unfinished_runs_than_are_looked_at_are_said_to_be_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_runs(store)
    assert (await RunLister(store.redis, 1).list("default", ALL_RUNS, limit=50)).complete
    monkeypatch.setattr("runtime_core.store.run_list._UNFINISHED", 2)
    assert not (await RunLister(store.redis, 1).list("default", ALL_RUNS, limit=50)).complete


async def test_garbage_in_a_record_is_a_row_that_says_so(store: Store) -> None:
    await some_runs(store)
    spoilt = {"queued": ("submitted_ms", "then"), "running": ("state", "odd"), "bad": ("result", "{")}
    for run, (name, value) in spoilt.items():
        await store.redis.hset(keys.run(PARTITION, ScopedRunId(run)), name, value)
    await store.redis.delete(keys.run(PARTITION, ScopedRunId("done")))
    await store.redis.set(keys.run(PARTITION, ScopedRunId("done")), "garbage")
    found = await RunLister(store.redis, 1).list("default", ALL_RUNS, limit=50)
    said = {row.run_id: row.unreadable for row in found.rows if row.record is None}
    assert said.keys() == {"queued", "running", "bad", "done"}
    assert said["queued"] == "its submitted_ms is 'then', no number"
    assert "odd" in said["running"]
    assert "its result cannot be read" in said["bad"]
    assert "WRONGTYPE" in said["done"]


async def test_a_story_tells_the_log_the_history_and_who_is_ahead(store: Store) -> None:
    lease = await store.own("w1")
    await store.submit("first", "s")
    await store.submit("second", "s")
    await store.submit("third", "s", parent_run_id="first", input_text="why?")
    await store.admitted(lease, "first")
    lease = await store.take_over(lease, "w2")
    await store.admitted(lease, "first")
    await store.leases.heartbeat("w2", {}, accepting=True)

    first = await read_story(store.redis, ScopedRunId("first"), frames=50)
    assert [(one.attempt, one.worker) for one in first.history] == [(1, "w1")]
    assert [(one.sequence, one.event) for one in first.frames] == [
        (1, "run.queued"),
        (2, "run.started"),
        (3, "run.interrupted"),
        (4, "run.started"),
    ]
    assert (first.children, first.owner, first.owner_beats, first.ahead) == (("third",), "w2", True, 0)
    assert first.record is not None
    assert (first.record.attempt, first.record.worker) == (2, "w2")

    third = await read_story(store.redis, ScopedRunId("third"), frames=50)
    assert third.ahead == 2
    assert third.head is not None
    assert (third.head.run_id, third.request and third.request.input_text) == ("first", "why?")
    newest = await read_story(store.redis, ScopedRunId("first"), frames=1)
    assert ([one.sequence for one in newest.frames], newest.frame_count) == ([4], 4)


async def test_a_story_of_spoilt_keys_says_which(store: Store) -> None:
    run = await store.submit("r")
    await store.redis.hset(keys.run(PARTITION, run), mapping={"attempt": "x", "request": "{"})
    await store.redis.rpush(keys.crashes(PARTITION, run), "{")
    await store.redis.xadd(keys.log(PARTITION, run), {"f": "{"}, id="2-0")
    await store.redis.set(keys.children(PARTITION, run), "garbage")
    story = await read_story(store.redis, run, frames=50)
    assert (story.record, story.request, len(story.frames)) == (None, None, 1)
    assert [problem.partition(": ")[0] for problem in story.unreadable] == [
        "its record",
        "its children",
        "its history",
        "its log",
    ]


async def test_a_story_that_is_not_there_or_has_a_spoilt_pointer_is_refused(store: Store) -> None:
    with pytest.raises(RunNotFound):
        await read_story(store.redis, ScopedRunId("nobody"), frames=1)
    run = await store.submit("r")
    await store.redis.set(keys.run_pointer(run), "garbage")
    with pytest.raises(RunlaneError, match="cannot be read: garbage"):
        await read_story(store.redis, run, frames=1)


async def test_sessions_are_listed_busy_ones_first_then_by_their_last_run(store: Store) -> None:
    await some_runs(store)
    for older, newer in (("b", "a"), ("a", "b")):
        for last, session in enumerate((older, newer)):
            await store.redis.hset(keys.session_part(PARTITION, _session(session), "meta"), "last_run_ms", last)
        found = await SessionLister(store.redis, 1).list("default", limit=50)
        assert [view.session_id for view in found.sessions][2:] == [newer, older]
    found = await SessionLister(store.redis, 1).list("default", limit=50)
    assert found.complete
    shown = {view.session_id: (view.pending, view.live_run) for view in found.sessions}
    assert shown == {"c": (2, "running"), "d": (1, None), "b": (0, None), "a": (0, None)}
    assert {view.worker for view in found.sessions} == {"w1"}
    assert len((await SessionLister(store.redis, 1).list("default", limit=1)).sessions) == 1
    assert (await SessionLister(store.redis, 1).list("another", limit=50)).sessions == ()


async def test_a_store_with_more_keys_than_are_walked_over_is_said_to_have_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_core.store.session_list._STEP", 1)
    monkeypatch.setattr("runtime_core.store.session_list._STEPS", 1)
    for number in range(20):
        await store.redis.set(f"other{number}", 1)
    assert not (await SessionLister(store.redis, 1).list("default", limit=50)).complete


async def test_one_session_is_shown_with_what_it_keeps(store: Store) -> None:
    await store.sessions.edit(_session("s"), ENTRIES)
    await store.submit("r")
    story = await SessionLister(store.redis, 1).show("default", "s")
    assert (story.messages, story.artifacts, story.state_fields, story.run_ids) == (1, 1, ("new",), ("r",))
    assert story.expires_in_s is not None
    assert story.expires_in_s > 29 * 24 * 3600
    await store.redis.delete(keys.session_part(PARTITION, _session("s"), "state"))
    await store.redis.set(keys.session_part(PARTITION, _session("s"), "state"), "garbage")
    spoilt = await SessionLister(store.redis, 1).show("default", "s")
    assert (spoilt.messages, [problem.partition(": ")[0] for problem in spoilt.unreadable]) == (1, ["its state"])
    with pytest.raises(SessionNotFound, match="no session 'nobody'"):
        await SessionLister(store.redis, 1).show("default", "nobody")


def _session(session_id: str) -> SessionKey:
    return session_key("default", session_id)
