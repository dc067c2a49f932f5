"""RunContext (what plugins see of a run) and RunScope (what the host of a run says about it).

The Runtime executes a run the same way in process and on a worker. All that differs is in the RunScope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runtime_core.contracts.host import RunHost
from runtime_core.contracts.run import RunArtifact, RunRequest, RunUsage
from runtime_core.contracts.session import SessionArtifact, SessionWriter
from runtime_core.deadlines import Deadlines
from runtime_core.ids import DEFAULT_TENANT, SessionKey, session_key

if TYPE_CHECKING:
    from runtime_core.events.bus import RuntimeEvent
    from runtime_core.session_resources import SessionResources

DepsT = TypeVar("DepsT")

#: Key of the session state under which memory plugins find the run's output during writeback.
LAST_OUTPUT_KEY = "_runtime_last_output"


async def _always_valid() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class RunScope:
    """Where an attempt executes.

    ``guard`` is awaited before each LLM call and each tool call: it returns at once while the lease is valid, waits
    while that is uncertain, and raises LeaseLost when another process owns the partition. ``sink`` gets every event of
    the run, in order, after the local bus; it may wait, which slows the agent down. ``writer`` stages session writes;
    None means that session plugins write directly. ``host`` keeps durable steps, decisions and child runs.
    """

    tenant: str = DEFAULT_TENANT
    attempt: int = 1
    config_version: int = 1
    #: Whether the session keeps the agents of that version, whichever is current.
    pinned: bool = False
    #: Whether the request was read for this attempt alone: then it is changed where another one is copied.
    owns_request: bool = False
    guard: Callable[[], Awaitable[None]] = _always_valid
    sink: Callable[[RuntimeEvent], Awaitable[None]] | None = None
    writer: SessionWriter | None = None
    #: None: the Runtime is the host.
    host: RunHost | None = None

    def session_key(self, session_id: str) -> SessionKey:
        return session_key(self.tenant, session_id)


#: The scope of the run that the current task executes; set by the kernel for the length of the run.
current_scope: ContextVar[RunScope] = ContextVar("runlane_run_scope")


#: The id of the tool call that the current task, or its thread, executes.
current_call_id: ContextVar[str | None] = ContextVar("runlane_tool_call_id", default=None)


@dataclass(kw_only=True)
class RunContext(Generic[DepsT]):
    """What the plugins of a run share. Mutable on purpose: memory fills memory_view, tools fill tool_results, …"""

    agent_id: str
    session_id: str
    input_text: str
    run_id: str
    run_request: RunRequest
    #: Emits events of this run: ``await event_bus.emit(name, **payload)`` stamps them with its ids.
    event_bus: Any
    scope: RunScope = field(default_factory=RunScope)
    deps: DepsT | None = None
    state: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, Any] = field(default_factory=dict)
    llm_client: Any = None
    llm_options: Any = None
    memory_view: dict[str, Any] = field(default_factory=dict)
    tool_results: list[dict[str, Any]] = field(default_factory=list)
    scratch: dict[str, Any] = field(default_factory=dict)
    active_skill: str | None = None
    skill_metadata: dict[str, Any] = field(default_factory=dict)
    system_prompt_fragments: list[str] = field(default_factory=list)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    session_artifacts: list[SessionArtifact] = field(default_factory=list)
    assembly_metadata: dict[str, Any] = field(default_factory=dict)
    tool_executor: Any = None
    usage: RunUsage = field(default_factory=RunUsage)
    artifacts: list[RunArtifact] = field(default_factory=list)
    agent_router: Any = None
    #: Connections and the like that the plugins of the session share; the Runtime closes them.
    session_resources: SessionResources | None = None
    #: Time limits that stand still while the run waits for a person, or for the store.
    deadlines: Deadlines = field(default_factory=Deadlines)

    @property
    def call_id(self) -> str | None:
        """Within a tool: the id of this call, the same in every attempt of the run. Tools hand it on as their
        idempotency key, since their side effects are at-least-once. It names the n-th call of that tool in that step:
        a model that decides otherwise in a later attempt asks for something else under the same id.
        """
        return current_call_id.get()
