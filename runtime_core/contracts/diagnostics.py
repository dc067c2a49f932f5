"""What diagnostics plugins get and give: the figures of one request to a model, and a picture of a run that failed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: Key of ``RunContext.scratch`` under which the kernel leaves the run's tool calls, oldest first, for a snapshot.
TOOL_CHAIN_KEY = "_diag_tool_chain"


class LLMCallMetrics(BaseModel):
    """One request to a model; ``error`` is what ended it, None if it was answered. Times in milliseconds."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    latency_ms: float
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ttft_ms: float | None = None
    attempt: int = 1
    error: str | None = None


class ErrorSnapshot(BaseModel):
    """A run at the moment at which it failed."""

    run_id: str
    agent_id: str
    session_id: str
    error_type: str
    error_message: str
    error_code: str = "error.unknown"
    traceback: str = ""
    #: ``{"tool_id", "params", "call_id"}`` of each call, oldest first.
    tool_call_chain: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    last_transcript: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    usage_at_failure: dict[str, Any] = Field(default_factory=dict[str, Any])
    state_snapshot: dict[str, Any] = Field(default_factory=dict[str, Any])
    #: ISO 8601, UTC.
    captured_at: str
