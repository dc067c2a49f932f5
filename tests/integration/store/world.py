"""A store in which every key of the catalogue stands, and every verb that a store class has, ready to be called.

A verb may be called twice in a row: the second call is what a caller does after a lost reply.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from redis.asyncio import Redis

from runtime_core.contracts.checkup import Troubles
from runtime_core.contracts.config_version import ConfigText
from runtime_core.contracts.host import Approval, decide
from runtime_core.contracts.run import ErrorDetails, RunRequest
from runtime_core.contracts.run_story import ALL_RUNS
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys
from runtime_core.store.attempts import Admission, NumberedFrame
from runtime_core.store.checkup import read_server, read_troubles
from runtime_core.store.configs import Activated, ConfigStore
from runtime_core.store.dead_letters import DeadLetterStore
from runtime_core.store.leases import renew
from runtime_core.store.meta import check_eviction_policy, open_store
from runtime_core.store.overview import read_status
from runtime_core.store.run_list import RunLister
from runtime_core.store.run_stories import read_story
from runtime_core.store.session_list import SessionLister
from runtime_core.store.sessions import artifact_entry, checkpoint_entry, message_entry, state_entries
from tests.integration.store.conftest import PARTITION, Store, frame

SESSION = SessionKey("default/running")
ENTRIES = [
    message_entry({"role": "user", "content": "hi"}),
    *state_entries({"old": 1}, {"new": 2}),
    artifact_entry(SessionArtifact(name="a")),
    checkpoint_entry(SessionCheckpoint(checkpoint_id="before")),
]
ASKED = Approval(call_id="c1", tool_id="t", params={"n": 1}, asked_ms=1)
STAGED = [json.dumps(entry) for entry in ENTRIES]


def request(run_id: str, session_id: str, **fields: Any) -> RunRequest:
    return RunRequest(agent_id="a", session_id=session_id, input_text="hi", run_id=run_id, **fields)


def _child(run_id: str) -> RunRequest:
    return request(run_id, "asking", parent_run_id="asking")


class World(Store):
    """Runs in every state: queued, behind another, running, cancelled while running, waiting, held, refused, dead."""

    def __init__(self, redis: Redis, blocking: redis.Redis) -> None:
        super().__init__(redis)
        #: The connection of the renewal thread.
        self.blocking = blocking
        self.dead = DeadLetterStore(redis, self.runs, 1)
        self.configs = ConfigStore(redis)

    async def build(self) -> World:
        await open_store(self.redis, 1)
        await self.leases.heartbeat("w1", {"pid": "1"}, accepting=True)
        await self._dead_letter("dead")
        self.lease = await self.own()
        self.running = await self._started("running", "running")
        await self.submit("behind", "running")
        await self.attempts.stage(self.running, 0, STAGED[:1])
        await self.attempts.step(self.running, "1", "{}")
        self.cancelled = await self._started("cancelled", "cancelled")
        await self.submit("child", "child", parent_run_id="cancelled")
        await self.attempts.step(self.cancelled, "1", "{}")
        await self.runs.cancel(self.cancelled.run)
        self.asking = await self._started("asking", "asking")
        await self.attempts.wait(self.asking, "approval:c1", asked=ASKED)
        await self.attempts.add_child(self.asking, _child("within"), tenant="default")
        self.held = await self._started("held", "held")
        await self.attempts.stage(self.held, 0, STAGED)
        await self.finish(self.held, self.held.sequence + 1, hold_session=True)
        self.ended = await self._started("ended", "held too")
        await self.submit("queued", "queued", queue_deadline_ms=60_000)
        await self.sessions.edit(SessionKey("default/idle"), [ENTRIES[0]])
        await self.configs.propose(ConfigText(text="the first"))
        await self.activate("the first", expected=0)
        await self.configs.propose(ConfigText(text="the next"))
        return self

    async def activate(self, text: str, *, expected: int) -> Activated:
        digest = ConfigText(text=text).digest
        return await self.configs.activate(digest, expected=expected, author="me", source="agents.yaml")

    async def _started(self, run_id: str, session_id: str) -> Admission:
        await self.submit(run_id, session_id)
        return await self.admitted(self.lease, run_id)

    async def _dead_letter(self, run_id: str) -> None:
        lease = await self.own("w0")
        run = await self.submit(run_id, run_id)
        await self.redis.hset(keys.run(PARTITION, run), "crashes", 7)
        await self.admitted(lease, run_id)
        await self.leases.release(await self.take_over(lease, "w1"))


async def _renew(world: World) -> None:
    (renewed,) = await asyncio.to_thread(renew, world.blocking, [world.lease])
    if isinstance(renewed, Exception):
        raise renewed


async def _submit_many(world: World) -> None:
    for outcome in await world.runs.submit_many([request("many1", "many"), request("many2", "many")]):
        if isinstance(outcome, Exception):
            raise outcome


async def _append(world: World) -> None:
    frames = [NumberedFrame(number, True, frame(world.running, number, "llm.delta")) for number in (3, 4)]
    await world.attempts.append(world.running, [*frames, NumberedFrame(4, False, frame(world.running, 4, "live"))])


async def _append_more_than_the_log_holds(world: World) -> None:
    await world.redis.hset(keys.run(PARTITION, world.running.run), "log_bytes", 8 * 1024 * 1024)
    frames = [NumberedFrame(n, True, frame(world.running, n, "llm.delta", "x"), b'{"text": "x"}') for n in (3, 4, 5)]
    await world.attempts.append(world.running, frames)


async def _fork(world: World) -> None:
    target = SessionKey("default/fork")
    await world.sessions.delete(target)
    await world.sessions.edit(target, ENTRIES, new=True)


_DECISION = decide("allow")
_ERROR = ErrorDetails(code="user.invalid_input", message="no")
_IDLE = SessionKey("default/idle")

#: Verbs that change the store.
WRITES: dict[str, Callable[[World], Awaitable[Any]]] = {
    "open a store": lambda world: open_store(world.redis),
    "submit": lambda world: world.submit("new", "new", queue_deadline_ms=60_000),
    "submit behind another": lambda world: world.submit("new", "running"),
    "submit a child": lambda world: world.submit("new", "new", parent_run_id="running"),
    "submit many": _submit_many,
    "cancel a queued run": lambda world: world.runs.cancel(ScopedRunId("queued")),
    "cancel a running run": lambda world: world.runs.cancel(world.running.run),
    "cancel again with a child": lambda world: world.runs.cancel(world.cancelled.run),
    "refuse": lambda world: world.runs.refuse(
        tenant="default", run_id="bad", session_id="bad", agent_id="a", error=_ERROR
    ),
    "admit": lambda world: world.admit(world.lease, "queued", "nonce"),
    "append": _append,
    "append more than the log holds": _append_more_than_the_log_holds,
    "stage": lambda world: world.attempts.stage(world.running, 1, STAGED),
    "step": lambda world: world.attempts.step(world.running, "2", '{"more": 1}'),
    "wait": lambda world: world.attempts.wait(world.running, "run:child"),
    "ask": lambda world: world.attempts.wait(world.running, "approval:c1", asked=ASKED),
    "decide": lambda world: world.approvals.decide(world.asking.run, "c1", _DECISION),
    "begin a child within": lambda world: world.attempts.add_child(world.asking, _child("new"), tenant="default"),
    "finish": lambda world: world.finish(world.ended, world.ended.sequence + 1),
    "finish a waiting run": lambda world: world.finish(world.asking, world.asking.sequence + 1),
    "finish and hold": lambda world: world.finish(world.ended, world.ended.sequence + 1, hold_session=True),
    "free a session": lambda world: world.attempts.free_session(world.held),
    "repair": lambda world: world.attempts.repair(world.lease, world.ended.run, 1),
    "heartbeat": lambda world: world.leases.heartbeat("w2", {"pid": "2"}, accepting=True),
    "leave": lambda world: world.leases.leave("w1"),
    "acquire": lambda world: world.leases.acquire(PARTITION + 1, "w2#1"),
    "renew": _renew,
    "release": lambda world: world.leases.release(world.lease, reserved_for="w2"),
    "sweep": lambda world: world.sweep(world.lease),
    "fork a session": _fork,
    "edit a session": lambda world: world.sessions.edit(_IDLE, [["set", "field", "1"]]),
    "delete a session": lambda world: world.sessions.delete(_IDLE),
    "propose a config": lambda world: world.configs.propose(ConfigText(text="another")),
    "activate a config": lambda world: world.activate("the next", expected=1),
    "reload an agent": lambda world: world.configs.reload_agent("a"),
    "unpin a session": lambda world: world.sessions.unpin(SESSION),
    "redrive": lambda world: world.dead.redrive(ScopedRunId("dead")),
}


async def _troubles(world: World) -> Troubles:
    return await read_troubles(world.redis, await read_status(world.redis), session_limit=1)


#: Verbs that only read.
READS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "locate": lambda world: world.runs.locate(world.running.run),
    "get": lambda world: world.runs.get(world.running.run),
    "read a log": lambda world: world.frames(world.running.run),
    "observe": lambda world: world.leases.observe(1),
    "messages": lambda world: world.sessions.messages(SESSION),
    "artifacts": lambda world: world.sessions.artifacts(SESSION),
    "state": lambda world: world.sessions.state(SESSION),
    "checkpoints": lambda world: world.sessions.checkpoints(SESSION),
    "steps": lambda world: world.sessions.steps(SESSION, world.running.run),
    "runs with steps": lambda world: world.sessions.stepped_runs(SESSION),
    "approvals": lambda world: world.approvals.list(world.asking.run),
    "staged writes": lambda world: world.attempts.staged(world.running),
    "known sessions": lambda world: world.sessions.known("default"),
    "list dead letters": lambda world: world.dead.list(),
    "show a dead letter": lambda world: world.dead.show(ScopedRunId("dead")),
    "current config": lambda world: world.configs.current(),
    "text of a config": lambda world: world.configs.text(1),
    "list configs": lambda world: world.configs.list(),
    "reloaded agents": lambda world: world.configs.reloaded_agents(0),
    "living workers": lambda world: world.leases.living(),
    "read the status": lambda world: read_status(world.redis),
    "list runs": lambda world: RunLister(world.redis, 1).list("default", ALL_RUNS, limit=50),
    "read a story": lambda world: read_story(world.redis, world.running.run, frames=50),
    "list sessions": lambda world: SessionLister(world.redis, 1).list("default", limit=50),
    "show a session": lambda world: SessionLister(world.redis, 1).show("default", "running"),
    "look at the server": lambda world: read_server(world.redis),
    "look for troubles": _troubles,
    "check the eviction policy": lambda world: check_eviction_policy(world.redis),
}
