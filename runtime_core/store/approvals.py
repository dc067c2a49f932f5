"""Tool calls that wait for a person: what is asked, and what is decided."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from runtime_core.contracts.host import Approval, Decision
from runtime_core.errors import InvalidInputError, RunConflict, RunlaneError
from runtime_core.ids import ScopedRunId, split_run_id
from runtime_core.store import keys
from runtime_core.store.reads import partition_of_run, run_not_found
from runtime_core.store.scripts import run_script
from runtime_core.suggestions import did_you_mean


class ApprovalStore:
    """The first decision about a call counts, whoever makes it; the run need not be executing just now."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def list(self, run: ScopedRunId) -> list[Approval]:
        """What a run has asked, in that order, with what was decided. Raises RunNotFound."""
        partition = await self._locate(run)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(keys.approvals(partition, run))
        pipeline.hgetall(keys.decisions(partition, run))
        asked, decided = await pipeline.execute()
        try:
            found = [_approval(text, decided.get(call_id)) for call_id, text in asked.items()]
        except ValidationError as error:
            raise RunlaneError(
                f"what run {run} asks cannot be read: {error.error_count()} errors",
                hint="run the same release of runlane in producers and workers",
            ) from error
        return sorted(found, key=lambda approval: approval.asked_ms)

    async def decide(self, run: ScopedRunId, call_id: str, decision: Decision) -> None:
        """Raises RunNotFound, RunConflict (decided before, or too late), InvalidInputError (nobody asks)."""
        word, *more = await run_script(
            self._redis, "decide", await self._locate(run), run, call_id, decision.model_dump_json()
        )
        run_id = split_run_id(run)[1]
        match word:
            case "OK":
                return
            case "DECIDED":
                verdict = Decision.model_validate_json(more[0]).verdict
                raise RunConflict(
                    f"the call {call_id} was decided before: {verdict}",
                    hint="the first decision counts",
                    run_id=run_id,
                )
            case "EXPIRED":
                raise RunConflict(
                    f"the call {call_id} was to be decided earlier: it counts as denied",
                    hint="give its tool a longer approval_timeout_ms",
                    run_id=run_id,
                )
            case "FINISHED":
                raise RunConflict(f"run {run_id} has finished", hint="there is nothing left to decide", run_id=run_id)
            case "GONE":
                raise run_not_found(run)
            case _:
                waiting = more[0]
                raise InvalidInputError(
                    f"no call {call_id!r} of run {run_id} waits for a decision",
                    hint=f"{did_you_mean(call_id, waiting)}Waiting: {', '.join(waiting) or 'none'}",
                    run_id=run_id,
                )

    async def _locate(self, run: ScopedRunId) -> int:
        read = partition_of_run(run)
        call: Any = self._redis.execute_command(*read.command)
        return read.parse(await call)


def _approval(asked: str, decided: str | None) -> Approval:
    approval = Approval.model_validate_json(asked)
    if decided is None:
        return approval
    return approval.model_copy(update={"decision": Decision.model_validate_json(decided)})
