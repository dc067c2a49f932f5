"""A worker's side of the protocol, driven step by step by a test: the real scripts, without a worker process."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds, encode_frame, encode_payload, short_fields
from runtime_core.contracts.host import Approval
from runtime_core.contracts.run import RunRequest, RunResult, StopReason
from runtime_core.ids import ScopedRunId, split_run_id
from runtime_core.store.attempts import Admission, AttemptStore, NumberedFrame
from runtime_core.store.leases import LeaseStore
from runtime_core.store.runs import RunStore
from runtime_core.store.sessions import message_entry


class AttemptByHand:
    """One attempt of one run; ``emit`` and ``finish`` are what a publisher would write."""

    def __init__(self, redis: Redis, admission: Admission) -> None:
        self._store = AttemptStore(redis)
        self.admission = admission
        self.sequence = admission.sequence
        request = RunRequest.model_validate_json(admission.request)
        self._ids = RunIds(run_id=request.run_id, session_id=request.session_id, agent_id=request.agent_id)

    @classmethod
    async def begin(cls, redis: Redis, run: str, partitions: int) -> AttemptByHand:
        """Own the run's partition and have its doorbell admitted."""
        scoped = ScopedRunId(run)
        partition = await RunStore(redis, partitions).locate(scoped)
        lease = await LeaseStore(redis).acquire(partition, f"by-hand#{uuid.uuid4().hex}")
        assert lease is not None, "the partition has an owner already: use another session"
        admission = await AttemptStore(redis).admit(lease, scoped, nonce="1", config_version=1)
        assert isinstance(admission, Admission), admission
        return cls(redis, admission)

    def frame(self, event: str, *, logged: bool = True, **payload: Any) -> Frame:
        self.sequence += logged
        return Frame(
            logged=logged,
            sequence=self.sequence,
            attempt=self.admission.attempt,
            event=event,
            timestamp_ms=0,
            ids=self._ids,
            payload=payload,
        )

    async def append(self, *frames: Frame) -> bool:
        batch = [NumberedFrame(frame.sequence, frame.logged, encode_frame(frame)) for frame in frames]
        return await self._store.append(self.admission, batch)

    async def emit(self, event: str, *, logged: bool = True, **payload: Any) -> bool:
        return await self.append(self.frame(event, logged=logged, **payload))

    async def emit_stored(self, event: str, **payload: Any) -> None:
        """As a publisher writes a payload that is too large to travel."""
        encoded = encode_payload(payload)
        frame = replace(self.frame(event, **short_fields(payload)), stored=len(encoded))
        numbered = NumberedFrame(frame.sequence, True, encode_frame(frame), encoded)
        await self._store.append(self.admission, [numbered])

    async def say(self, *messages: str) -> None:
        """Stage messages of the session."""
        entries = [json.dumps(message_entry({"role": "user", "content": message})) for message in messages]
        await self._store.stage(self.admission, 0, entries)

    async def ask(self, call_id: str) -> None:
        """Wait for a person's decision about a tool call."""
        asked = Approval(call_id=call_id, tool_id="deploy", asked_ms=1)
        await self._store.wait(self.admission, f"approval:{call_id}", asked=asked)

    async def finish_stored(self, **fields: Any) -> None:
        """As a publisher ends a run whose result is too large to travel."""
        result = self._result(**fields)
        frame = replace(self.frame(TERMINAL_EVENT, stop_reason=result.stop_reason), stored=1)
        await self._store.finish(self.admission, result=result, terminal=(frame.sequence, encode_frame(frame)))

    def _result(self, **fields: Any) -> RunResult:
        return RunResult(run_id=split_run_id(self.admission.run)[1], task_id=self.admission.run, **fields)

    async def finish(self, stop_reason: StopReason = StopReason.COMPLETED, **fields: Any) -> None:
        result = self._result(stop_reason=stop_reason, **fields)
        frame = self.frame(TERMINAL_EVENT, stop_reason=stop_reason, result=result.model_dump(mode="json"))
        await self._store.finish(self.admission, result=result, terminal=(frame.sequence, encode_frame(frame)))
