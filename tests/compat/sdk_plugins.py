"""Plugin classes as users of the openagents SDK 0.4 have them: on its base classes, with its errors."""

from __future__ import annotations

from typing import Any

from openagents import memory, tool  # pyright: ignore[reportMissingImports]
from openagents.errors.exceptions import (  # pyright: ignore[reportMissingImports]
    ModelRetryError,
    OpenAgentsError,
    PermanentToolError,
    RetryableToolError,
    ToolRateLimitError,
)
from openagents.interfaces.context import (  # pyright: ignore[reportMissingImports]
    ContextAssemblerPlugin,
    ContextAssemblyResult,
)
from openagents.interfaces.memory import MemoryPlugin  # pyright: ignore[reportMissingImports]
from openagents.interfaces.pattern import PatternPlugin  # pyright: ignore[reportMissingImports]
from openagents.interfaces.runtime import (  # pyright: ignore[reportMissingImports]
    RunResult,
    RuntimePlugin,
    RunUsage,
    StopReason,
)
from openagents.interfaces.tool import (  # pyright: ignore[reportMissingImports]
    PolicyDecision,
    ToolExecutionSpec,
    ToolExecutorPlugin,
    ToolPlugin,
)


@tool(name="greet", description="Greets somebody.")
async def greeting(params: dict[str, Any], context: Any) -> str:
    return f"hello {params['query']}, from {context.agent_id}"


@memory  # pyright: ignore[reportUntypedClassDecorator]
class Forgetful(MemoryPlugin):
    async def inject(self, context: Any) -> None:
        context.memory_view["history"] = []


class Answering(RuntimePlugin):
    """Runs no agent at all."""

    async def run(self, *, request: Any, **known: Any) -> RunResult:
        usage = RunUsage(llm_calls=len(known["agents_by_id"]))
        return RunResult(run_id=request.run_id, final_output="42", stop_reason=StopReason.MAX_STEPS, usage=usage)


class Diary(MemoryPlugin):
    async def inject(self, context: Any) -> None:
        context.memory_view["history"] = list(context.state.get("diary", []))

    async def writeback(self, context: Any) -> None:
        entry = {"input": context.input_text, "output": context.state.get("_runtime_last_output")}
        context.state.setdefault("diary", []).append(entry)


class Asking(PatternPlugin):
    """Calls the model, and a tool if its input names one: ``<tool> <query>``."""

    async def execute(self) -> Any:
        await self.emit("pattern.step_started", step=0)
        tool, _, query = self.context.input_text.partition(" ")
        if tool in self.context.tools:
            result = await self.call_tool(tool, {"query": query})
            self.add_artifact(name="found", payload=result)
            answer = f"{tool}: {result}"
        else:
            answer = await self.call_llm(messages=[{"role": "user", "content": self.context.input_text}])
        await self.emit("pattern.step_finished", step=0, action={"type": "final"})
        self.context.state["_runtime_last_output"] = answer
        return answer

    async def react(self) -> dict[str, Any]:
        return {"type": "final", "content": ""}


class Batching(PatternPlugin):
    """Asks for the weather of several places at once."""

    async def execute(self) -> Any:
        places = self.context.input_text.split()
        outcomes = await self.call_tool_batch([("weather", {"query": place}) for place in places])
        return [str(outcome) for outcome in outcomes]

    async def react(self) -> dict[str, Any]:
        return {"type": "final", "content": ""}


class Streaming(Batching):
    """Reads what the tool says part by part."""

    async def execute(self) -> Any:
        tool = self.context.tools["weather"]
        return [part async for part in tool.invoke_stream({"query": self.context.input_text}, self.context)]


class OutOfTune(OpenAgentsError):
    code = "band.out_of_tune"
    retryable = True


class Band(Asking):
    """Fails in its own way the first time that it is asked."""

    _failed = False

    async def execute(self) -> Any:
        answer = await super().execute()
        if not self._failed:
            self._failed = True
            raise OutOfTune("the violin", hint="tune it")
        return answer


class Picky(Asking):
    """Wants its own answer twice."""

    async def finalize(self, raw: Any, output_type: Any) -> Any:
        if not self.context.scratch.get("last_validation_error"):
            raise ModelRetryError("say it again")
        return f"{raw}!"


class Gust(PermanentToolError):
    retryable = True


class Weather(ToolPlugin):
    async def invoke(self, params: dict[str, Any], context: Any) -> Any:
        match params.get("query"):
            case "storm":
                raise RetryableToolError("the station is down", tool_name="weather")
            case "nowhere":
                raise PermanentToolError("there is no such place", tool_name="weather")
            case "gust":
                raise Gust("it will pass", tool_name="weather")
            case "again":
                raise ToolRateLimitError("too often", tool_name="weather", retry_after_ms=5)
            case place:
                return {"place": place, "sky": "blue"}

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="none")

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"query": {"type": "string"}}}


class NoSecrets(ToolExecutorPlugin):
    async def evaluate_policy(self, request: Any) -> PolicyDecision:
        allowed = request.params.get("query") != "secret"
        return PolicyDecision(allowed=allowed, reason="" if allowed else "that is secret")


class Nothing(ContextAssemblerPlugin):
    async def assemble(self, *, request: Any, session_state: Any, session_manager: Any) -> ContextAssemblyResult:
        return ContextAssemblyResult(transcript=[], session_artifacts=[], metadata={"assembler": "nothing"})
