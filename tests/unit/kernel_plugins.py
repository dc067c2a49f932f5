"""Plugins of the kernel's tests: each does one thing that plugins in the wild do, right or wrong."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunResult
from runtime_core.contracts.session import SessionArtifact
from runtime_core.contracts.tool import ToolExecutionRequest, ToolExecutionResult, ToolExecutionSpec
from runtime_core.errors import LeaseLost, ModelRetryError, PermanentToolError
from runtime_core.plugins.builtin.pattern.base import Pattern
from runtime_core.plugins.builtin.session.in_memory import InMemorySession


class OpenAgentsStylePattern:
    """Without a base class: setup takes the parts of the run one by one, and makes a context of its own."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}
        self.context: Any = None

    async def setup(
        self,
        agent_id: str,
        session_id: str,
        input_text: str,
        state: dict[str, Any],
        tools: dict[str, Any],
        llm_client: Any,
        llm_options: Any,
        event_bus: Any,
        transcript: list[dict[str, Any]] | None = None,
    ) -> None:
        self.context = {"agent_id": agent_id, "transcript": transcript}

    async def execute(self) -> Any:
        context = self.context
        ids = {"agent_id": context.agent_id, "session_id": context.session_id, "run_id": context.run_id}
        await context.event_bus.emit("custom.event", **ids, detail=1)
        result = await context.tools["calc"].invoke({"expression": context.input_text}, context)
        answer = await context.llm_client.generate(messages=[{"role": "user", "content": str(result["result"])}])
        context.state["seen"] = [*context.state.get("seen", []), context.input_text]
        return answer.output_text


class BareExecute:
    """``execute`` and nothing else; takes no config."""

    async def execute(self) -> str:
        return "bare"


class Raising(Pattern):
    """Raises what its config names."""

    async def execute(self) -> Any:
        kinds: dict[str, BaseException] = {
            "value": ValueError("wrong value"),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "generator": GeneratorExit(),
            "cancelled": asyncio.CancelledError(),
            "timeout": TimeoutError("too slow"),
            "lease": LeaseLost(),
            "file name": FileNotFoundError("no file caf\udce9"),
        }
        raise kinds[self.config["raises"]]


class Waiting(Pattern):
    """Never comes to an end of its own."""

    async def execute(self) -> Any:
        await self.emit("test.waiting")
        await asyncio.Event().wait()


class ThreeCalls(Pattern):
    """Calls the same tool three times in one step, and the last time in another step."""

    async def execute(self) -> list[Any]:
        batch = await self.call_tool_batch([("calc", {"expression": "1+1"}), ("calc", {"expression": "1/0"})])
        return [*batch[:1], str(batch[1]), await self.call_tool("calc", {"expression": "2+2"})]


class Artifacts(Pattern):
    async def execute(self) -> str:
        self.add_artifact(name="report", payload={"pages": 2})
        await self.emit("pattern.phase", phase="done")
        self.add_artifact(name="late", payload="x", kind="note")
        return "done"


class UnsavableArtifact(Pattern):
    """Makes an artifact that JSON cannot hold."""

    async def execute(self) -> str:
        self.add_artifact(name="report", payload="x", metadata={"made by": object()})
        return "done"


class StrictSession(InMemorySession):
    """Refuses artifacts, and answers that are not text."""

    async def append_message(self, session_id: str, message: dict[str, Any]) -> None:
        if not isinstance(message["content"], str):
            raise OSError("not text")
        await super().append_message(session_id, message)

    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None:
        raise OSError("the disk is full")


class Returning(Pattern):
    """Returns what JSON cannot hold."""

    async def execute(self) -> Any:
        return {"nan": {"nan": float("nan")}, "surrogate": ["caf\udce9"]}.get(self.config.get("kind", ""), object())


class Validating(Pattern):
    """Is valid on its third try."""

    tries = 0

    async def execute(self) -> int:
        self.tries += 1
        return self.tries

    async def finalize(self, raw: Any, output_type: Any) -> Any:
        if raw < 3:
            raise ModelRetryError(f"{raw} is too small")
        return raw


class Seeing(Pattern):
    """Returns what it finds of earlier runs, and leaves traces."""

    async def execute(self) -> dict[str, Any]:
        found = {"scratch": dict(self.context.scratch), "results": list(self.context.tool_results)}
        self.context.scratch["trace"] = self.context.run_id
        self.context.tool_results.append({"trace": self.context.run_id})
        await asyncio.sleep(0)
        return found | {"run_id": self.context.run_id, "input": self.context.input_text}


class FailingMemory:
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}

    async def inject(self, context: RunContext[Any]) -> None:
        raise RuntimeError("no memory today")


class Validated:
    """Checks its config with pydantic, as plugins of the openagents SDK do."""

    class Config(BaseModel):
        size: int

    def __init__(self, config: dict[str, Any]) -> None:
        self.cfg = self.Config.model_validate(config)


class ClosingMemory:
    """Notes when it is closed."""

    closed: list[str] = []  # noqa: RUF012  # shared on purpose: the test reads it from the class

    async def close(self) -> None:
        self.closed.append("closed")


class Tool:
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}


class FailingTool(Tool):
    async def invoke(self, params: dict[str, Any], context: Any) -> Any:
        raise PermanentToolError("the disk is full", hint="buy another one")


class CrashingTool(Tool):
    def invoke(self, params: dict[str, Any], context: Any) -> Any:
        raise ZeroDivisionError("by zero")


class ExitingTool(Tool):
    def invoke(self, params: dict[str, Any], context: Any) -> Any:
        raise SystemExit(1)


class ThreadTool(Tool):
    """Plain: runs in a thread until its event is set."""

    release = threading.Event()

    def invoke(self, params: dict[str, Any], context: Any) -> str:
        self.release.wait(10)
        return threading.current_thread().name

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(default_timeout_ms=self.config.get("timeout_ms"))


class CallIdTool(Tool):
    """Answers with the id of its call."""

    def invoke(self, params: dict[str, Any], context: Any) -> str | None:
        return context.call_id


class AsyncCallIdTool(Tool):
    async def invoke(self, params: dict[str, Any], context: Any) -> str | None:
        await asyncio.sleep(0)
        return context.call_id


class PreflightTool(Tool):
    async def preflight(self, context: Any) -> None:
        if self.config.get("broken"):
            raise OSError("no such server")

    async def invoke(self, params: dict[str, Any], context: Any) -> float:
        return time.monotonic()


class WrongRuntime:
    async def run(self, **known: Any) -> Any:
        return {"not": "a result"}


class OwnRuntime:
    async def run(self, *, request: Any, app_config: Any, agents_by_id: Any, agent_plugins: Any) -> RunResult:
        return RunResult(run_id=request.run_id, final_output=[sorted(agents_by_id), len(app_config.agents)])


class Emitting(Pattern):
    """Leaves a task behind that emits once the run is over."""

    async def execute(self) -> str:
        events, over = self.context.event_bus, asyncio.Event()
        events.subscribe("session.run.completed", lambda _: over.set())

        async def emit_late() -> None:
            await over.wait()
            await events.emit("late.event")

        self.left_behind = asyncio.create_task(emit_late())
        return "done"


class ResultTool(Tool):
    """Returns a result rather than plain data."""

    async def invoke(self, params: dict[str, Any], context: Any) -> ToolExecutionResult:
        success = bool(self.config["success"])
        return ToolExecutionResult(
            tool_id="t", success=success, data="the data", error="said no", metadata={"tries": 2}
        )


class RefusingExecutor:
    """Decides without calling the tool; its results are of a class of its own, as those of another SDK are."""

    async def execute(self, request: ToolExecutionRequest) -> Any:
        assert inspect.iscoroutinefunction(request.tool.invoke)
        return SimpleNamespace(
            tool_id=request.tool_id, success=False, data=None, error="not today", exception=None, metadata=None
        )
