"""Diagnostics of runs: what the plugin is told, and the snapshot that a run leaves when it fails.

Whatever a diagnostics plugin raises is logged: it never changes what came of a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from runtime_core.config.schema import DiagnosticsRef
from runtime_core.contracts.context import RunContext
from runtime_core.contracts.diagnostics import TOOL_CHAIN_KEY, LLMCallMetrics
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.optional_methods import call_if_present, optional_method
from runtime_core.kernel.outcome import error_of
from runtime_core.plugins.builtin.diagnostics.null import NullDiagnostics
from runtime_core.redaction import redacted

logger = logging.getLogger(__name__)

#: Tool calls that a run remembers for its snapshot, the newest.
_TOOL_CALLS = 50
#: Characters of a text, and bytes of the whole snapshot: on a fleet it is stored with the run.
_MAX_TEXT = 500
_MAX_BYTES = 16 * 1024
#: Of a plugin's snapshot, what goes into the result's metadata. Its traceback and its state stay in the process.
_SHOWN = ("run_id", "error_type", "error_code", "error_message", "tool_call_chain", "last_transcript", "captured_at")
#: Lists of a snapshot, in the order in which they are shortened.
_LISTS = ("last_events", "last_transcript", "tool_call_chain")


class RunDiagnosis:
    """Follows one attempt of a run. The kernel tells it the run's context and the error that ended it."""

    def __init__(self, plugin: Any, ref: DiagnosticsRef, request: RunRequest) -> None:
        self._plugin = plugin
        self._ref = ref
        self._request = request
        self._events: list[RuntimeEvent] = []
        self._tool_calls: list[dict[str, Any]] = []
        self.context: RunContext[Any] | None = None
        self.error: BaseException | None = None

    def watch(self, event: RuntimeEvent) -> None:
        """Every event of the run passes here."""
        self._events.append(event)
        del self._events[: max(0, len(self._events) - self._ref.error_snapshot_last_n)]
        if event.name == "tool.called":
            self._tool_calls.append({key: event.payload.get(key) for key in ("tool_id", "params", "call_id")})
            del self._tool_calls[:-_TOOL_CALLS]
        elif event.name in ("llm.succeeded", "llm.failed"):
            self._record(event.payload)

    async def ended(self, result: RunResult) -> None:
        """The run is over: a failed one gets ``metadata.error_snapshot``, then the plugin is told."""
        snapshot = None
        try:
            if self.error is not None:
                snapshot = self._capture(self.error, result)
                result.metadata = {**result.metadata, "error_snapshot": self._shown(snapshot)}
            await call_if_present(self._plugin, "on_run_complete", result, snapshot)
        except Exception:
            logger.exception("the diagnostics of run %s failed", result.run_id)

    def _record(self, payload: dict[str, Any]) -> None:
        if (record := optional_method(self._plugin, "record_llm_call")) is None:
            return
        try:
            # Patterns of the openagents SDK send the figures as an object along with the event.
            given = payload.get("_metrics")
            record(self._request.run_id, LLMCallMetrics.model_validate(_figures(payload) if given is None else given))
        except ValidationError:
            logger.debug("an event without the figures of its request to a model: %s", payload.keys())
        except Exception:
            logger.exception("the diagnostics of run %s failed", self._request.run_id)

    def _capture(self, error: BaseException, result: RunResult) -> Any:
        context, calls = self.context, self._tool_calls
        if context is not None:
            context.scratch[TOOL_CHAIN_KEY] = calls
        capture: Callable[..., Any] = (
            optional_method(self._plugin, "capture_error_snapshot") or NullDiagnostics().capture_error_snapshot
        )
        return capture(
            run_id=self._request.run_id,
            agent_id=self._request.agent_id,
            session_id=self._request.session_id,
            exc=error_of(error),
            ctx=context,
            usage=result.usage,
            last_n=self._ref.error_snapshot_last_n,
            redact_keys=self._ref.redact_keys,
        )

    def _shown(self, snapshot: Any) -> dict[str, Any]:
        events = [
            {"name": event.name, "timestamp_ms": event.timestamp_ms, "payload": event.payload} for event in self._events
        ]
        fields = {name: getattr(snapshot, name, None) for name in _SHOWN} | {"last_events": events}
        return _bounded(redacted(fields, keys=self._ref.redact_keys, max_length=_MAX_TEXT))


def _figures(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: payload[name] for name in LLMCallMetrics.model_fields if name in payload}


def _bounded(shown: dict[str, Any]) -> dict[str, Any]:
    """``shown`` without the oldest entries that make it too large."""
    for name in _LISTS:
        while shown[name] and len(to_json(shown)) > _MAX_BYTES:
            del shown[name][0]
    return shown
