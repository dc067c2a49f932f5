"""What the user wants to be remembered, for a memory plugin to keep."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters

#: Key of the session state under which ``markdown_memory`` finds what it is to write.
PENDING_WRITES_KEY = "_pending_memory_writes"
#: Entries that wait at most: without a memory that takes them they would grow with the session.
_MAX_PENDING = 100


class RememberPreferenceParameters(Parameters):
    category: str = Field("user_feedback", min_length=1, max_length=100, description="Which kind of preference")
    rule: str = Field(min_length=1, max_length=2000, description="What to remember, as one sentence")
    reason: str = Field("", max_length=2000, description="Why the user wants it")


class RememberPreferenceTool(BuiltinTool[RememberPreferenceParameters]):
    """``{"rule": "Answer in French"}`` → ``{"queued": true, "count": 1}``, count being the entries that wait.

    ``markdown_memory`` writes them down when the run is over; without it nothing does.
    """

    name = "remember_preference"
    description = "Remember a preference of the user beyond this conversation."
    Parameters = RememberPreferenceParameters
    durable_idempotent = False

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="session")

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        rule = given.rule.strip()
        if not rule:
            raise ToolValidationError("rule is empty", hint="say what to remember", tool_id=self.name)
        pending: list[dict[str, str]] = context.state.setdefault(PENDING_WRITES_KEY, [])
        if len(pending) >= _MAX_PENDING:
            raise ToolValidationError(
                f"{_MAX_PENDING} preferences wait to be written already",
                hint="nothing writes them: the agent's memory lacks markdown_memory",
                tool_id=self.name,
            )
        pending.append({"category": given.category, "rule": rule, "reason": given.reason.strip()})
        return {"queued": True, "count": len(pending)}
