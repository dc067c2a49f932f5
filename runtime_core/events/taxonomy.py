"""Every event that Runlane declares: its required payload keys and what it says.

The check is advisory: an event that lacks a key is delivered all the same, with a warning in the log. The ids of the
run (run_id, session_id, agent_id, parent_run_id) are stamped on the event itself and are therefore never required in
the payload. Events that are not declared here are the user's own and pass unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EventSpec:
    """What an event means and which payload keys it always has."""

    meaning: str
    required: tuple[str, ...] = ()


#: Event name → spec. Names are past or progressive tense and never renamed.
EVENTS: dict[str, EventSpec] = {
    # one run
    "run.queued": EventSpec("The run was accepted and waits for a worker."),
    "run.started": EventSpec("An attempt of the run began; the attempt's first event."),
    "run.requested": EventSpec("The runtime took the request.", ("input_text",)),
    "session.run.started": EventSpec("A run of the session began.", ("input_text",)),
    "run.validated": EventSpec("The agent exists and its plugins are loaded."),
    "session.acquired": EventSpec("The run has its session for itself."),
    "run.completed": EventSpec("The run has its output.", ("result",)),
    "run.failed": EventSpec("The run ended without an output.", ("error", "error_details")),
    "session.run.completed": EventSpec("The run of the session is over.", ("stop_reason", "duration_ms")),
    "run.finished": EventSpec("The run's last event: its result.", ("stop_reason", "result")),
    "run.child_submitted": EventSpec("A child of the run was accepted.", ("run_id",)),
    "run.interrupted": EventSpec("The attempt ended early; another one follows."),
    "stream.gap": EventSpec("The log no longer holds what the reader asked for."),
    "validation.retry": EventSpec("The output did not validate; the pattern runs again.", ("attempt", "error")),
    # context
    "context.compact.started": EventSpec("The assembler's compact() began."),
    "context.compact.completed": EventSpec("The assembler's compact() is done.", ("duration_ms",)),
    "context.compact_succeeded": EventSpec("The assembler's compact() succeeded."),
    "context.compact_failed": EventSpec("The assembler's compact() raised.", ("error", "error_details")),
    "context.assemble.started": EventSpec("The run's transcript is being assembled."),
    "context.assemble.completed": EventSpec(
        "The transcript is assembled.", ("transcript_size", "artifact_count", "duration_ms")
    ),
    "context.created": EventSpec("The run context is complete."),
    # memory
    "memory.inject.started": EventSpec("memory.inject() began."),
    "memory.injected": EventSpec("memory.inject() succeeded."),
    "memory.inject.completed": EventSpec("memory.inject() is done.", ("view_size",)),
    "memory.inject_failed": EventSpec("memory.inject() raised; on_error decides.", ("error", "error_details")),
    "memory.writeback.started": EventSpec("memory.writeback() began."),
    "memory.writeback_succeeded": EventSpec("memory.writeback() succeeded."),
    "memory.writeback.completed": EventSpec("memory.writeback() is done."),
    "memory.writeback_failed": EventSpec("memory.writeback() raised; on_error decides.", ("error", "error_details")),
    "memory.compact.started": EventSpec("memory.compact() began."),
    "memory.compact_succeeded": EventSpec("memory.compact() succeeded."),
    "memory.compact.completed": EventSpec("memory.compact() is done."),
    "memory.compact_failed": EventSpec("memory.compact() raised; on_error decides.", ("error", "error_details")),
    # pattern
    "pattern.step_started": EventSpec("An iteration of the pattern began.", ("step",)),
    "pattern.step_finished": EventSpec("An iteration of the pattern is done.", ("step", "action")),
    "pattern.phase": EventSpec("The pattern entered a phase.", ("phase",)),
    "pattern.plan_created": EventSpec("The pattern made a plan.", ("plan",)),
    # model
    "llm.called": EventSpec("A request goes to the model.", ("model",)),
    "llm.delta": EventSpec("The model wrote a piece of text.", ("text",)),
    "llm.succeeded": EventSpec("The model answered.", ("model",)),
    "llm.failed": EventSpec("The request to the model failed.", ("model", "error", "error_details")),
    "usage.updated": EventSpec("The run's usage so far.", ("usage",)),
    # tools: those of a call carry its call_id, too, but from patterns of the openagents SDK, which do not know it
    "tool.preflight": EventSpec("A tool checked that it can work.", ("tool_id", "result")),
    "tool.called": EventSpec("A tool is called.", ("tool_id", "params")),
    "tool.delta": EventSpec("A tool produced a part of its result.", ("tool_id", "call_id")),
    "tool.succeeded": EventSpec("A tool returned.", ("tool_id", "result")),
    "tool.failed": EventSpec("A tool failed.", ("tool_id", "error")),
    "tool.retry_requested": EventSpec("A tool asks the model to try again.", ("tool_id", "attempt", "error")),
    "tool.approval_needed": EventSpec("A tool call waits for a person.", ("tool_id", "call_id", "params")),
    "tool.cancelled": EventSpec("A tool call was cancelled.", ("tool_id", "call_id")),
    "tool.batch.started": EventSpec("A batch of tool calls began.", ("batch_id", "call_ids", "concurrent_count")),
    "tool.batch.completed": EventSpec("A batch of tool calls is done.", ("batch_id", "successes", "failures")),
    "tool.background.submitted": EventSpec("A background job was submitted.", ("tool_id", "call_id", "job_id")),
    "tool.background.polled": EventSpec("A background job was polled.", ("tool_id", "call_id", "job_id", "status")),
    "tool.background.completed": EventSpec("A background job ended.", ("tool_id", "call_id", "job_id", "status")),
    "artifact.emitted": EventSpec("The run made an artifact.", ("name", "kind", "payload")),
    # durability and budget
    "run.checkpoint_saved": EventSpec("A durable step was saved.", ("checkpoint_id", "step_index")),
    "run.checkpoint_failed": EventSpec("A durable step could not be saved.", ("checkpoint_id", "error", "error_type")),
    "run.resume_attempted": EventSpec("The run resumes from a checkpoint.", ("checkpoint_id", "attempt_index")),
    "run.resume_succeeded": EventSpec("The run resumed from a checkpoint.", ("checkpoint_id", "attempt_index")),
    "run.resume_exhausted": EventSpec("The run resumed too often.", ("attempt_index", "error_type", "limit")),
    "run.durable_idempotency_warning": EventSpec("A tool of a durable run is not idempotent.", ("tool_id",)),
    "budget.cost_skipped": EventSpec("The cost limit cannot be checked.", ("limit", "reason")),
    # configuration
    "config.reloaded": EventSpec("The agents config changed.", ("old_version", "new_version", "changed_agents")),
    "agent.reloaded": EventSpec("An agent's plugins were dropped.", ("agent_id",)),
}


def missing_keys(name: str, payload: Mapping[str, Any]) -> list[str]:
    """The required keys that ``payload`` lacks; empty for an event that is not declared."""
    spec = EVENTS.get(name)
    return [key for key in spec.required if key not in payload] if spec else []
