"""The error tree: one class per stable code.

A class carries ``code`` (dotted, stable across releases and processes) and ``retryable`` (whether the same call may
succeed later). The instance carries what happened, a hint that tells the next step, and where it happened. The first
line of a class's docstring is its default message. Codes follow BEHAVIOURS of the openagents SDK 0.4, whose base code
``openagents.error`` is ``runlane.error`` here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from runtime_core.wording import well_formed

CONTEXT_KEYS = ("agent_id", "session_id", "run_id", "tool_id", "step_number")


class RunlaneError(Exception):
    """Something went wrong in Runlane."""

    code: str = "runlane.error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        docs_url: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        tool_id: str | None = None,
        step_number: int | None = None,
    ) -> None:
        self.message = well_formed(message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0])
        self.hint = hint and well_formed(hint)
        self.docs_url = docs_url
        self.context: dict[str, str | int] = {}
        self.with_context(
            agent_id=agent_id, session_id=session_id, run_id=run_id, tool_id=tool_id, step_number=step_number
        )
        super().__init__(self.message)

    def with_context(self, **values: str | int | None) -> Self:
        """Fill in where it happened; a value already known is kept. Keys are those of CONTEXT_KEYS."""
        for key, value in values.items():
            if key not in CONTEXT_KEYS:
                raise TypeError(f"unknown error context {key!r}; use one of {', '.join(CONTEXT_KEYS)}")
            if value is not None:
                self.context.setdefault(key, well_formed(value) if isinstance(value, str) else value)
        return self

    def __str__(self) -> str:
        lines = [self.message]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        if self.docs_url:
            lines.append(f"  docs: {self.docs_url}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: code, message, hint, docs_url, retryable, context."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "docs_url": self.docs_url,
            "retryable": self.retryable,
            "context": dict(self.context),
        }


class ConfigError(RunlaneError):
    """The configuration is wrong."""

    code = "config.error"


class ConfigLoadError(ConfigError):
    """The configuration could not be read."""

    code = "config.load"


class ConfigValidationError(ConfigError):
    """The configuration does not fit its schema."""

    code = "config.validation"


class PluginError(RunlaneError):
    """A plugin misbehaved."""

    code = "plugin.error"


class PluginLoadError(PluginError):
    """A plugin could not be loaded."""

    code = "plugin.load"


class PluginConfigError(PluginError):
    """A plugin's config is wrong."""

    code = "plugin.config"


class ExecutionError(RunlaneError):
    """The run could not be executed."""

    code = "execution.error"


class MaxStepsExceeded(ExecutionError):
    """The run used up its steps."""

    code = "execution.max_steps"


class BudgetExhausted(ExecutionError):
    """The run used up its budget."""

    code = "execution.budget_exhausted"


class OutputValidationError(ExecutionError):
    """The final output does not fit the output type."""

    code = "execution.output_validation"


class SessionError(ExecutionError):
    """The session could not be read or written."""

    code = "session.error"


class PatternError(ExecutionError):
    """The pattern misbehaved."""

    code = "pattern.error"


class ToolError(RunlaneError):
    """The tool failed."""

    code = "tool.error"


class RetryableToolError(ToolError):
    """The tool failed; trying again may help."""

    code = "tool.retryable"
    retryable = True


class PermanentToolError(ToolError):
    """The tool failed; trying again will not help."""

    code = "tool.permanent"


class ToolTimeoutError(RetryableToolError):
    """The tool took too long."""

    code = "tool.timeout"


class ToolNotFoundError(PermanentToolError):
    """There is no such tool."""

    code = "tool.not_found"


class ToolValidationError(PermanentToolError):
    """The tool's parameters are wrong."""

    code = "tool.validation"


class ToolAuthError(PermanentToolError):
    """The tool was refused access."""

    code = "tool.auth"


class ToolUnavailableError(RetryableToolError):
    """The tool's service is not available."""

    code = "tool.unavailable"


class ToolCancelledError(PermanentToolError):
    """The tool was cancelled."""

    code = "tool.cancelled"


class _WaitBeforeRetry(RunlaneError):
    """Mixin of errors that know when to try again: ``retry_after_ms`` in milliseconds, None if unknown."""

    def __init__(self, message: str | None = None, *, retry_after_ms: int | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after_ms = retry_after_ms

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"retry_after_ms": self.retry_after_ms}


class ToolRateLimitError(_WaitBeforeRetry, RetryableToolError):
    """The tool's service limits the rate of calls."""

    code = "tool.rate_limit"


class LLMError(RunlaneError):
    """The LLM call failed."""

    code = "llm.error"


class LLMConnectionError(_WaitBeforeRetry, LLMError):
    """The LLM provider could not be reached."""

    code = "llm.connection"
    retryable = True


class LLMRateLimitError(_WaitBeforeRetry, LLMError):
    """The LLM provider limits the rate of calls."""

    code = "llm.rate_limit"
    retryable = True


class LLMResponseError(LLMError):
    """The LLM provider's answer cannot be used."""

    code = "llm.response"


class ModelRetryError(LLMError):
    """The model is asked to answer again."""

    code = "llm.model_retry"


class UserError(RunlaneError):
    """The caller made a mistake."""

    code = "user.error"


class InvalidInputError(UserError):
    """The input is not valid."""

    code = "user.invalid_input"


class AgentNotFoundError(UserError, ConfigError):
    """There is no such agent."""

    code = "user.agent_not_found"


class RequestError(UserError):
    """The HTTP request cannot be served."""

    code = "request.error"


class RouteNotFound(RequestError):
    """There is nothing at this path."""

    code = "request.route_not_found"


class MethodNotAllowed(RequestError):
    """This path does not take this method."""

    code = "request.method_not_allowed"


class RequestTooLarge(RequestError):
    """The request is too large."""

    code = "request.too_large"


class RequestTooSlow(RequestError):
    """The request did not arrive in time."""

    code = "request.too_slow"
    retryable = True


class UnsupportedMediaType(RequestError):
    """The request's body is of a type that is not taken."""

    code = "request.unsupported_media_type"


class Unauthenticated(RequestError):
    """Who asks is not known."""

    code = "auth.unauthenticated"


class Forbidden(RequestError):
    """Who asks may not do this."""

    code = "auth.forbidden"


class QueueFull(_WaitBeforeRetry):
    """The queue is full."""

    code = "queue.full"
    retryable = True


class QueueDeadline(RunlaneError):
    """The run did not start within its queue_deadline_ms."""

    code = "queue.deadline"
    retryable = True


class TooManyStreams(_WaitBeforeRetry):
    """As many streams are open as may be."""

    code = "gateway.too_many_streams"
    retryable = True


class FleetUnavailable(RunlaneError):
    """No worker answers."""

    code = "fleet.unavailable"
    retryable = True


class StoreUnavailable(RunlaneError):
    """Redis does not answer, or refuses to serve for now. Every verb may be repeated."""

    code = "store.unavailable"
    retryable = True


class RunConflict(RunlaneError):
    """The run id is taken by another request."""

    code = "run.conflict"


class RunNotFound(RunlaneError):
    """There is no such run; its record may have expired."""

    code = "run.not_found"


class SessionNotFound(RunlaneError):
    """There is no such session; it may have expired."""

    code = "session.not_found"


class RunDeadLetter(RunlaneError):
    """The run was given up on."""

    code = "run.dead_letter"


class LeaseLost(RunlaneError):
    """The worker no longer owns the partition."""

    code = "lease.lost"
    retryable = True


class DelegationDepthExceeded(RunlaneError):
    """Runs delegate to each other too deeply."""

    code = "delegation.depth_exceeded"


class RunFailedError(RunlaneError):
    """The run ended as failed; ``details`` is the ErrorDetails of its result and ``code`` the code in there."""

    def __init__(self, message: str, *, code: str, details: Any = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.details = details
        self.code = code  # one class stands for every code
