"""Tool calls that a person must allow before they are made."""

from __future__ import annotations

from typing import Any

from runtime_core.clock import now_ms
from runtime_core.contracts.context import RunContext
from runtime_core.contracts.host import Approval, RunHost, Verdict
from runtime_core.errors import PermanentToolError, ToolValidationError
from runtime_core.kernel.journal import Journal
from runtime_core.kernel.optional_methods import optional_method

#: In ``context_hints``: decisions that the request brings along, call id (or ``*``) → ``allow`` or ``deny``.
APPROVALS_HINT = "approvals"
#: A person gets a day, unless the tool's ``approval_timeout_ms`` says otherwise.
DEFAULT_TIMEOUT_MS = 24 * 3_600_000


class Approvals:
    """1. A tool asks for a person by ``requires_approval`` (a method or a plain value), or by ``approval_mode:
    "always"`` of its execution_spec.

    2. A decision that the request brings counts first; otherwise the run waits, and no time of its budget passes.
    3. What is denied, or not decided in time, fails as a ToolError that the model is told of; the tool is not called.
    """

    def __init__(self, context: RunContext[Any], host: RunHost, journal: Journal) -> None:
        self._context = context
        self._host = host
        self._journal = journal

    async def check(self, tool_id: str, tool: Any, params: dict[str, Any], call_id: str) -> None:
        """Return when the call may be made. Raises PermanentToolError if it may not, LeaseLost."""
        if not self._needed(tool, params):
            return
        given = self._given(call_id)
        if given is None:
            verdict, reason = await self._ask(tool_id, tool, params, call_id)
        else:
            verdict, reason = given, ""
        if verdict is Verdict.DENY:
            raise PermanentToolError(
                f"the call was not allowed{f': {reason}' if reason else ''}",
                hint="go on without it, or ask the user what to do instead",
                tool_id=tool_id,
            )

    async def _ask(self, tool_id: str, tool: Any, params: dict[str, Any], call_id: str) -> tuple[Verdict, str]:
        timeout_ms: int | None = getattr(tool, "approval_timeout_ms", DEFAULT_TIMEOUT_MS)
        asked = now_ms()
        approval = Approval(
            call_id=call_id,
            tool_id=tool_id,
            params=params,
            asked_ms=asked,
            expires_ms=None if timeout_ms is None else asked + timeout_ms,
        )
        await self._journal.settle()
        with self._context.deadlines.paused(whole_run=True):
            decision = await self._host.decision(approval, self._announce)
        await self._context.scope.guard()
        return decision.verdict, decision.reason

    async def _announce(self, approval: Approval) -> None:
        shown = approval.model_dump(exclude={"decision", "asked_ms"})
        await self._context.event_bus.emit("tool.approval_needed", waiting_for="approval", **shown)

    def _needed(self, tool: Any, params: dict[str, Any]) -> bool:
        asks: Any = getattr(tool, "requires_approval", None)
        if callable(asks):
            return bool(asks(params, self._context))
        if asks is not None:
            return bool(asks)
        specify = optional_method(tool, "execution_spec")
        return specify is not None and getattr(specify(), "approval_mode", "inherit") == "always"

    def _given(self, call_id: str) -> Verdict | None:
        hint: Any = self._context.run_request.context_hints.get(APPROVALS_HINT)
        if not isinstance(hint, dict):
            return None
        value: Any = hint.get(call_id, hint.get("*"))
        if value is None:
            return None
        try:
            return Verdict(value)
        except ValueError as error:
            raise ToolValidationError(
                f"the request's {APPROVALS_HINT} hint says {value!r} of the call {call_id}",
                hint="write allow or deny",
            ) from error
