"""Chunks: what a client sees of a run."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from runtime_core.contracts.run import RunResult


class RunStreamChunkKind(StrEnum):
    RUN_QUEUED = "run.queued"
    RUN_STARTED = "run.started"
    LLM_DELTA = "llm.delta"
    LLM_FINISHED = "llm.finished"
    TOOL_STARTED = "tool.started"
    TOOL_DELTA = "tool.delta"
    TOOL_FINISHED = "tool.finished"
    ARTIFACT = "artifact"
    VALIDATION_RETRY = "validation.retry"
    CHECKPOINT_SAVED = "run.checkpoint_saved"
    RESUME_ATTEMPTED = "run.resume_attempted"
    RESUME_SUCCEEDED = "run.resume_succeeded"
    RUN_INTERRUPTED = "run.interrupted"
    STREAM_GAP = "stream.gap"
    RUN_FINISHED = "run.finished"


class RunStreamChunk(BaseModel):
    """One chunk of a run's stream.

    ``sequence`` is dense per run from 1, over all attempts; ``run.finished`` is last, always, and alone carries
    ``result``. ``attempt`` is 0 before the first attempt. ``timestamp_ms`` is milliseconds since the epoch. ``cursor``
    is what a reader on the fleet hands back as ``after`` to go on behind this chunk.
    """

    kind: RunStreamChunkKind
    run_id: str
    session_id: str = ""
    agent_id: str = ""
    sequence: int = 0
    attempt: int = 0
    timestamp_ms: int = 0
    payload: dict[str, Any] = Field(default_factory=dict)
    result: RunResult | None = None
    cursor: str = ""


class OpenToolCall(BaseModel):
    """A tool call that was begun and has not returned."""

    call_id: str
    tool_id: str


class StreamSnapshot(BaseModel):
    """How a run stood behind the last chunk that its log dropped; in the payload of a ``stream.gap`` as ``snapshot``.

    A reader replaces what it holds by this and goes on. ``text`` is what ``llm.delta`` chunks of the attempt said, from
    its start; of a text longer than a megabyte only the end, and ``truncated`` says so.
    """

    text: str = ""
    truncated: bool = False
    open_tool_calls: tuple[OpenToolCall, ...] = ()
    #: queued, running, interrupted
    status: str
    attempt: int
