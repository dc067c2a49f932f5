"""Diagnostics ``null``, the default: nothing is measured; a run that fails still leaves a snapshot."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.diagnostics import TOOL_CHAIN_KEY, ErrorSnapshot
from runtime_core.contracts.run import RunUsage
from runtime_core.redaction import SECRET_KEYS, redacted

#: Characters of a text in a snapshot.
_MAX_TEXT = 500


class NullDiagnostics:
    """Also the base of diagnostics that only add to it."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}

    def capture_error_snapshot(
        self,
        *,
        run_id: str,
        agent_id: str,
        session_id: str,
        exc: BaseException,
        ctx: RunContext[Any] | None = None,
        usage: RunUsage | None = None,
        last_n: int = 10,
        redact_keys: Iterable[str] | None = None,
    ) -> ErrorSnapshot:
        """``ctx`` is None if the run failed before it had one: its tool calls and messages are missing then."""
        keys = SECRET_KEYS if redact_keys is None else tuple(redact_keys)

        def shown(value: Any) -> Any:
            return redacted(value, keys=keys, max_length=_MAX_TEXT)

        return ErrorSnapshot(
            run_id=run_id,
            agent_id=agent_id,
            session_id=session_id,
            error_type=type(exc).__name__,
            error_message=str(exc),
            error_code=getattr(exc, "code", "error.unknown"),
            traceback="".join(traceback.format_exception(exc)),
            tool_call_chain=shown(ctx.scratch.get(TOOL_CHAIN_KEY, [])) if ctx else [],
            last_transcript=shown(ctx.transcript[-last_n:] if last_n else []) if ctx else [],
            usage_at_failure=usage.model_dump() if usage else {},
            state_snapshot=shown(ctx.state) if ctx else {},
            captured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def get_run_metrics(self, run_id: str) -> dict[str, Any]:
        """Nothing is measured."""
        return {}
