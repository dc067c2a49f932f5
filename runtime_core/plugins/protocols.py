"""The seams: what each kind of plugin is asked to do. This is the architecture of the Runtime in one file.

A plugin is any object with the methods of its seam; no base class is needed. It is made once per (session, agent) by
calling its class with ``config=<mapping from the agents file>`` (or with nothing, if it takes no config), and is asked
for by ``type`` or ``impl``. REQUIRED_METHODS says which methods it must have; those of a protocol that are not listed
there are optional, and the host looks before it calls.

Rules for all of them:
1. A method may be ``async`` or plain where the docstring says so; a plain one may run in a thread.
2. A plugin keeps no run in its attributes beyond the run: the next run of the session uses the same object.
3. What it raises ends the run or the call, never the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from runtime_core.contracts.diagnostics import ErrorSnapshot, LLMCallMetrics
from runtime_core.contracts.run import RunRequest, RunResult, RunUsage
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint
from runtime_core.contracts.skills import SessionSkillSummary
from runtime_core.contracts.tool import PolicyDecision, ToolExecutionRequest, ToolExecutionResult, ToolExecutionSpec

if TYPE_CHECKING:
    from runtime_core.contracts.context import RunContext


class Seam(StrEnum):
    """A kind of plugin; the value is its name in the agents file."""

    MEMORY = "memory"
    PATTERN = "pattern"
    TOOL = "tool"
    TOOL_EXECUTOR = "tool_executor"
    CONTEXT_ASSEMBLER = "context_assembler"
    SESSION = "session"
    EVENTS = "events"
    RUNTIME = "runtime"
    SKILLS = "skills"
    DIAGNOSTICS = "diagnostics"


#: A plugin without these is refused when it is loaded, rather than in the middle of a run.
REQUIRED_METHODS: Mapping[Seam, tuple[str, ...]] = {
    Seam.MEMORY: (),
    Seam.PATTERN: ("execute",),
    Seam.TOOL: ("invoke",),
    Seam.TOOL_EXECUTOR: ("execute",),
    Seam.CONTEXT_ASSEMBLER: ("assemble",),
    Seam.SESSION: (
        "session",
        "get_state",
        "set_state",
        "append_message",
        "load_messages",
        "save_artifact",
        "list_artifacts",
    ),
    Seam.EVENTS: ("emit", "subscribe"),
    Seam.RUNTIME: ("run",),
    Seam.SKILLS: ("prepare_session", "load_references", "run_skill"),
    Seam.DIAGNOSTICS: (),
}


class Memory(Protocol):
    """What an agent remembers of its session. All methods are optional and async.

    1. ``inject`` fills ``context.memory_view`` before the pattern executes.
    2. ``writeback`` stores what the run adds, in ``context.state`` or elsewhere, after the pattern has executed.
    3. ``retrieve`` answers a query with items, best first; it changes nothing.
    4. ``compact`` may shrink what is stored; it comes after writeback.
    5. ``close`` is awaited once, when the plugins of the session are dropped.
    6. What it raises fails the run only if its ``on_error`` is ``fail``.
    """

    async def inject(self, context: RunContext[Any]) -> None: ...
    async def writeback(self, context: RunContext[Any]) -> None: ...
    async def retrieve(self, query: str, context: RunContext[Any]) -> list[dict[str, Any]]: ...
    async def compact(self, context: RunContext[Any]) -> None: ...
    async def close(self) -> None: ...


class Pattern(Protocol):
    """How an agent thinks: the loop of LLM calls and tool calls. ``execute`` alone is required.

    1. ``setup`` gets the parts of the run by keyword, the RunContext of it among them, before each ``execute``.
    2. ``execute`` returns the raw output of the run.
    3. ``react`` does one step of the loop and says what comes next.
    4. ``finalize`` turns the raw output into ``output_type``; it raises ModelRetryError to have ``execute`` try again.
    """

    async def setup(self, **parts: Any) -> None: ...
    async def execute(self) -> Any: ...
    async def react(self) -> dict[str, Any]: ...
    async def finalize(self, raw: Any, output_type: Any) -> Any: ...


class Tool(Protocol):
    """What an agent can do. ``invoke`` alone is required; it may be async, and a plain one runs in a thread.

    1. ``invoke`` takes the parameters that the model chose and returns a value that JSON can hold. It checks them: they
       are whatever a model wrote. It raises ToolError (retryable or permanent) with a text that the model can act on.
    2. ``describe`` returns ``{name, description, parameters}``, parameters being a JSON schema; ``schema`` returns the
       parameters alone, for tools without ``describe``.
    3. ``execution_spec`` says how it may be executed.
    4. ``invoke_stream`` yields partial results, the last one ``{"type": "result", "data": …}``.
    5. ``before_invoke`` and ``after_invoke`` surround each call; the latter comes on failure too.
    6. ``preflight`` is awaited once before the first call of a run and raises if the tool cannot work.
    """

    def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> Any: ...
    def describe(self) -> dict[str, Any]: ...
    def schema(self) -> dict[str, Any]: ...
    def execution_spec(self) -> ToolExecutionSpec: ...
    def invoke_stream(self, params: dict[str, Any], context: RunContext[Any]) -> AsyncIterator[dict[str, Any]]: ...
    async def before_invoke(self, params: dict[str, Any], context: RunContext[Any]) -> None: ...
    async def after_invoke(
        self, params: dict[str, Any], context: RunContext[Any], result: Any, exception: BaseException | None
    ) -> None: ...
    async def preflight(self, context: RunContext[Any]) -> None: ...


class ToolExecutor(Protocol):
    """How tools are called: timeouts, policies, retries. ``execute`` alone is required. An executor with
    ``max_concurrency`` has patterns make so many calls of one batch side by side.

    1. ``execute`` never raises for a failing tool: the failure is in the result, with its error.
    2. Cancellation passes through.
    3. ``evaluate_policy`` decides before the call; a refused call does not reach the tool.
    4. ``execute_stream`` yields what a tool that ``supports_streaming`` yields; it raises the ToolError of a failure.
    """

    async def execute(self, request: ToolExecutionRequest) -> ToolExecutionResult: ...
    async def execute_batch(self, requests: list[ToolExecutionRequest]) -> list[ToolExecutionResult]: ...
    async def evaluate_policy(self, request: ToolExecutionRequest) -> PolicyDecision: ...


class ContextAssembler(Protocol):
    """What of a session's past goes into a run. ``assemble`` alone is required.

    1. ``assemble`` returns an object with ``transcript``, ``session_artifacts`` and ``metadata``.
    2. ``compact`` comes before it and may shrink the transcript.
    3. ``finalize`` comes after the run and returns the result, changed or not.
    """

    async def assemble(
        self, *, request: RunRequest, session_state: dict[str, Any], session_manager: SessionManager
    ) -> Any: ...
    async def compact(
        self, *, request: RunRequest, session_state: dict[str, Any], session_manager: SessionManager
    ) -> None: ...
    async def finalize(
        self, *, request: RunRequest, session_state: dict[str, Any], session_manager: SessionManager, result: Any
    ) -> Any: ...


class SessionManager(Protocol):
    """What a session keeps between runs.

    1. ``session`` is entered for the length of a run; at most one run of a session is inside at a time, the others
       wait. It yields the state.
    2. Who changes the state calls ``set_state`` before leaving; a change of the yielded mapping alone may be lost.
    3. Messages and artifacts come back in the order in which they were added.
    4. A reader sees what its own run wrote, and nothing of a run of another process that is still executing.
    5. ``shared_between_processes`` (attribute, false if absent) says whether another process sees what this one
       wrote. A worker refuses a plugin that does not share.
    6. An unknown session is an empty one. ``delete_session`` of one is no error.
    7. ``fork_session`` copies all that the source keeps into a target that keeps nothing yet (else SessionError);
       neither sees what is written to the other afterwards.
    8. A checkpoint is a copy of the state with the lengths of transcript and artifacts. ``list_checkpoints`` names them
       in the order of their creation, and the durable steps of the session's runs, ``<run id>:step:<number>``.
    9. ``save_step`` keeps a durable step, a JSON text, once: a number that is there keeps what it holds.
    10. ``load_newest_messages``, which is optional, returns the newest ``limit`` messages in their order, and how many
        there are in all. Who needs no more than the end of a long transcript looks for it.
    """

    def session(self, session_id: str) -> AbstractAsyncContextManager[dict[str, Any]]: ...
    async def get_state(self, session_id: str) -> dict[str, Any]: ...
    async def set_state(self, session_id: str, state: dict[str, Any]) -> None: ...
    async def append_message(self, session_id: str, message: dict[str, Any]) -> None: ...
    async def load_messages(self, session_id: str) -> list[dict[str, Any]]: ...
    async def load_newest_messages(self, session_id: str, limit: int) -> tuple[list[dict[str, Any]], int]: ...
    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None: ...
    async def list_artifacts(self, session_id: str) -> list[SessionArtifact]: ...
    async def delete_session(self, session_id: str) -> None: ...
    async def list_sessions(self) -> list[str]: ...
    async def fork_session(self, source_session_id: str, target_session_id: str) -> None: ...
    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint: ...
    async def load_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None: ...
    async def list_checkpoints(self, session_id: str) -> list[str]: ...
    async def save_step(self, session_id: str, run_id: str, number: int, delta: str) -> None: ...
    async def load_steps(self, session_id: str, run_id: str) -> dict[int, str]: ...
    async def close(self) -> None: ...


class Events(Protocol):
    """The bus inside the process.

    1. ``emit`` calls the handlers of the name and of ``*`` inline, in the order of their subscription.
    2. What a handler raises is logged and swallowed.
    3. ``get_history`` returns the newest events, oldest first; how many are kept is the bus's own affair.
    """

    def subscribe(self, event_name: str, handler: Callable[[Any], Awaitable[None] | None]) -> None: ...
    def unsubscribe(self, event_name: str, handler: Callable[[Any], Awaitable[None] | None]) -> None: ...
    async def emit(self, event_name: str, **payload: Any) -> Any: ...
    async def get_history(self, event_name: str | None = None, limit: int | None = None) -> list[Any]: ...
    async def clear_history(self) -> None: ...
    async def close(self) -> None: ...


class Skills(Protocol):
    """What an agent has learnt to do, beyond its tools. One object serves all sessions of the process.

    1. ``prepare_session`` comes with every run, in its session, and returns the session's skills by name.
    2. ``load_references`` and ``run_skill`` are for whoever holds the runtime's ``skills_manager``, and for plugins.
    3. ``instructions``, which is optional, is what a model is told in a run that is about the skill; else its default
       prompt.
    """

    async def prepare_session(
        self, *, session_id: str, session_manager: SessionManager
    ) -> dict[str, SessionSkillSummary]: ...
    async def load_references(
        self, *, session_id: str, skill_name: str, session_manager: SessionManager
    ) -> list[dict[str, str]]: ...
    async def run_skill(
        self, *, session_id: str, skill_name: str, payload: dict[str, Any], session_manager: SessionManager
    ) -> dict[str, Any]: ...
    async def instructions(self, *, skill_name: str) -> str: ...


class RuntimePlugin(Protocol):
    """Who executes one run. ``run`` returns a RunResult, and raises only for what is no outcome of the run."""

    async def run(
        self, *, request: RunRequest, app_config: Any, agents_by_id: Any, agent_plugins: Any
    ) -> RunResult: ...
    async def close(self) -> None: ...


class Diagnostics(Protocol):
    """What is measured of runs, and what is kept of one that failed. One object serves all runs of the process.

    1. All methods are optional; ``on_run_complete`` may be async, the others are plain and quick.
    2. ``record_llm_call`` comes after each request to a model, failed ones too.
    3. ``capture_error_snapshot`` comes when a run has failed, and returns an ErrorSnapshot. The fields of it that
       ``metadata.error_snapshot`` shows are redacted and bounded by the host.
    4. ``on_run_complete`` comes last, once per attempt that ended, and drops what was kept of the run.
    5. ``get_run_metrics`` answers for a run that executes.
    6. What it raises is logged, and changes nothing about the run.
    """

    def record_llm_call(self, run_id: str, metrics: LLMCallMetrics) -> None: ...
    def capture_error_snapshot(
        self,
        *,
        run_id: str,
        agent_id: str,
        session_id: str,
        exc: BaseException,
        ctx: RunContext[Any] | None,
        usage: RunUsage | None,
        last_n: int,
        redact_keys: list[str],
    ) -> ErrorSnapshot: ...
    async def on_run_complete(self, result: RunResult, snapshot: ErrorSnapshot | None) -> None: ...
    def get_run_metrics(self, run_id: str) -> dict[str, Any]: ...
