"""A run's record as Redis keeps it, a hash of texts, and as a RunRecord."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime_core.contracts.run import RunRecord, RunResult, RunState, StopReason
from runtime_core.ids import ScopedRunId, split_run_id, split_session_key

#: The fields of the hash that a RunRecord shows, in the order that ``parse_record`` wants.
RECORD_FIELDS = (
    *("session", "agent", "state", "status", "attempt", "sequence", "owner", "config_version"),
    *("crashes", "interruptions", "handovers", "spared", "charges", "cancel", "waiting_for"),
    *("deadline", "submitted_ms", "started_ms", "finished_ms", "result"),
)


def parse_record(run: ScopedRunId, partition: int, values: Sequence[str | None]) -> RunRecord | None:
    """The record, None if there is none. Raises ValueError that names the field, if one cannot be read."""
    fields = dict(zip(RECORD_FIELDS, values, strict=True))
    if fields["state"] is None:
        return None
    tenant, run_id = split_run_id(run)
    owner, result = fields["owner"], fields["result"]
    return RunRecord(
        run_id=run_id,
        tenant=tenant,
        session_id=split_session_key(fields["session"] or "")[1],
        agent_id=fields["agent"] or "",
        partition=partition,
        state=RunState(fields["state"]),
        status=StopReason(fields["status"]) if fields["status"] else None,
        attempt=_number(fields, "attempt"),
        sequence=_number(fields, "sequence"),
        worker=owner.rpartition("#")[0] if owner else None,
        config_version=_optional(fields, "config_version"),
        crashes=_number(fields, "crashes"),
        interruptions=_number(fields, "interruptions"),
        handovers=_number(fields, "handovers"),
        spared=_number(fields, "spared"),
        charges=_number(fields, "charges"),
        deadline_ms=_optional(fields, "deadline"),
        cancel_requested=fields["cancel"] == "1",
        waiting_for=fields["waiting_for"] or None,
        submitted_ms=_number(fields, "submitted_ms"),
        started_ms=_optional(fields, "started_ms"),
        finished_ms=_optional(fields, "finished_ms"),
        result=RunResult.model_validate_json(result) if result else None,
    )


def _optional(fields: Mapping[str, str | None], name: str) -> int | None:
    value = fields[name]
    try:
        return int(value) if value else None
    except ValueError as error:
        raise ValueError(f"its {name} is {value!r}, no number") from error


def _number(fields: Mapping[str, str | None], name: str) -> int:
    return _optional(fields, name) or 0
