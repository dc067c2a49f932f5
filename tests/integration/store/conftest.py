"""A store with one partition, its owner, and the few moves that every protocol test makes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime_core.contracts.frame import Frame, RunIds, encode_frame
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.errors import RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.approvals import ApprovalStore
from runtime_core.store.attempts import Admission, AttemptStore, Refusal
from runtime_core.store.leases import Lease, LeaseStore, Swept
from runtime_core.store.reads import log_of_run
from runtime_core.store.runs import RunStore
from runtime_core.store.sessions import SessionStore

PARTITION = 0


class Store:
    """All parts of one store over one connection."""

    def __init__(self, redis: Redis) -> None:
        self.redis: Any = redis
        self.runs = RunStore(redis, 1)
        self.attempts = AttemptStore(redis)
        self.leases = LeaseStore(redis)
        self.sessions = SessionStore(redis, 1)
        self.approvals = ApprovalStore(redis)
        self._nonces = itertools.count()

    async def submit(self, run_id: str, session_id: str = "s", **fields: Any) -> ScopedRunId:
        values: dict[str, Any] = {"agent_id": "a", "input_text": "hi"} | fields
        request = RunRequest(session_id=session_id, run_id=run_id, **values)
        return (await self.runs.submit(request)).run

    async def own(self, worker: str = "w1") -> Lease:
        owner = f"{worker}#{next(self._nonces)}"
        lease = await self.leases.acquire(PARTITION, owner)
        assert lease is not None
        return lease

    async def take_over(self, lease: Lease, worker: str) -> Lease:
        """The lease expires while Redis answers, and another worker takes the partition."""
        await self.expire(lease)
        await self.steady()
        return await self.own(worker)

    async def steady(self) -> None:
        """Redis has answered the fleet for long."""
        seconds, _ = await self.redis.time()
        await self.redis.hset(keys.PULSE, mapping={"since": 0, "last": seconds * 1000})

    async def pulse(self, *, since_ago_ms: int, last_ago_ms: int) -> None:
        """Heartbeats came without a gap from then to then, as counted back from now."""
        now = await self.now_ms()
        await self.redis.hset(keys.PULSE, mapping={"since": now - since_ago_ms, "last": now - last_ago_ms})

    async def overdue(self) -> None:
        """Every ready head should have been rung long ago."""
        for session in await self.redis.zrange("rl:{p0000}:ready", 0, -1):
            await self.redis.zadd("rl:{p0000}:ready", {session: 1})

    async def expire(self, lease: Lease) -> None:
        """As if it was last renewed a TTL ago."""
        await self.redis.hset(keys.lease(lease.partition), "expires", await self.now_ms())

    async def now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return seconds * 1000 + micros // 1000

    async def sweep(self, lease: Lease, in_hand: int = 0) -> Swept:
        (swept,) = await self.leases.sweep({lease: in_hand})
        if isinstance(swept, RunlaneError):
            raise swept
        return swept

    async def admit(self, lease: Lease, run: str, nonce: str | None = None) -> Admission | Refusal:
        nonce = nonce or f"n{next(self._nonces)}"
        return await self.attempts.admit(lease, ScopedRunId(run), nonce=nonce, config_version=1)

    async def admitted(self, lease: Lease, run: str) -> Admission:
        admission = await self.admit(lease, run)
        assert isinstance(admission, Admission), admission
        return admission

    async def finish(
        self, admission: Admission, sequence: int, status: StopReason = StopReason.COMPLETED, **kwargs: Any
    ) -> None:
        result = RunResult(run_id=admission.run, stop_reason=status)
        terminal = (sequence, frame(admission, sequence, "run.finished"))
        await self.attempts.finish(admission, result=result, terminal=terminal, **kwargs)

    async def bells(self) -> list[str]:
        """Run ids whose doorbell waits, in the order of delivery."""
        messages = await self.redis.lrange(keys.queue(PARTITION), 0, -1)
        return [json.loads(message)["headers"]["id"] for message in reversed(messages)]

    async def events(self, run: str) -> list[tuple[int, int, str]]:
        return [(frame.sequence, frame.attempt, frame.event) for frame in await self.frames(run)]

    async def frames(self, run: str) -> list[Frame]:
        read = log_of_run(PARTITION, ScopedRunId(run), count=20_000)
        return read.parse(await self.redis.execute_command(*read.command))


def frame(admission: Admission, sequence: int, event: str, text: str = "") -> bytes:
    ids = RunIds(run_id=admission.run, session_id="s", agent_id="a")
    return encode_frame(
        Frame(
            logged=True,
            sequence=sequence,
            attempt=admission.attempt,
            event=event,
            timestamp_ms=1,
            ids=ids,
            config_version=1,
            payload={"text": text},
        )
    )


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)
