"""Jobs that a tool does in the background: submitted and polled within a run, seen in its events.

The job is the tool's own, wherever it is done; it may outlive the run. Whoever polls holds its handle.
"""

from __future__ import annotations

from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.errors import PermanentToolError
from runtime_core.kernel.optional_methods import optional_method

#: Statuses of a job that has ended.
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


async def submit_job(tool_id: str, tool: Any, params: dict[str, Any], context: RunContext[Any], call_id: str) -> Any:
    """The tool's handle of a new job, an object with ``job_id``. Raises PermanentToolError for a tool that has none."""
    handle: Any = await _method(tool_id, tool, "invoke_background")(params, context)
    await context.event_bus.emit("tool.background.submitted", tool_id=tool_id, call_id=call_id, job_id=handle.job_id)
    return handle


async def poll_job(tool_id: str, tool: Any, handle: Any, context: RunContext[Any], call_id: str) -> Any:
    """How the job stands: an object with ``job_id``, ``status``, and ``result`` or ``error`` once it has ended."""
    status: Any = await _method(tool_id, tool, "poll_job")(handle, context)
    seen = {"tool_id": tool_id, "call_id": call_id, "job_id": handle.job_id, "status": status.status}
    await context.event_bus.emit("tool.background.polled", **seen)
    if status.status in _ENDED:
        await context.event_bus.emit("tool.background.completed", **seen)
    return status


async def cancel_job(tool_id: str, tool: Any, handle: Any, context: RunContext[Any]) -> bool:
    return bool(await _method(tool_id, tool, "cancel_job")(handle, context))


def _method(tool_id: str, tool: Any, name: str) -> Any:
    method = optional_method(tool, name)
    if method is None:
        raise PermanentToolError(
            f"the tool {tool_id!r} does nothing in the background: it has no {name}",
            hint="call it in the usual way",
            tool_id=tool_id,
        )
    return method
