"""What passes between a pattern, the tool executor and a tool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtime_core.errors import RunlaneError

if TYPE_CHECKING:
    from runtime_core.contracts.context import RunContext


@dataclass(frozen=True, kw_only=True)
class ToolExecutionSpec:
    """How a tool may be executed. ``default_timeout_ms`` is in milliseconds, None for the executor's own."""

    concurrency_safe: bool = False
    interrupt_behavior: str = "cancel"
    side_effects: str = "unknown"
    approval_mode: str = "inherit"
    default_timeout_ms: int | None = None
    reads_files: bool = False
    writes_files: bool = False
    supports_streaming: bool = False


@dataclass(frozen=True, kw_only=True)
class PolicyDecision:
    allowed: bool
    reason: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ToolExecutionRequest:
    tool_id: str
    tool: Any
    params: dict[str, Any]
    context: RunContext[Any]
    #: Stable over attempts: hash of run, step, tool and ordinal. Tools use it as their idempotency key.
    call_id: str
    execution_spec: ToolExecutionSpec = field(default_factory=ToolExecutionSpec)
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Always None: a call is cancelled by cancelling its task. Executors of the openagents SDK look for it.
    cancel_event: None = None


@dataclass(frozen=True, kw_only=True)
class ToolExecutionResult:
    tool_id: str
    success: bool
    data: Any = None
    error: str | None = None
    exception: RunlaneError | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """How one call of a tool's ``invoke_batch`` ended; ``item_id`` is that of the item that asked for it."""

    item_id: str
    success: bool
    data: Any = None
    error: str | None = None
    exception: BaseException | None = None
