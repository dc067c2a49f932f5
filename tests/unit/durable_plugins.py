"""Plugins of the tests of durable runs, approvals and delegation. What they count outlives their runs: see COUNTS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import RunArtifact
from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import LLMConnectionError, RetryableToolError
from runtime_core.llm.protocol import LLMRequest
from runtime_core.plugins.builtin.pattern.base import Pattern

#: What really happened: tool and parameter → how often.
COUNTS: Counter[str] = Counter()


class Steps(Pattern):
    """``steps`` times: asks the model, calls the tool ``note``. Fails once in step ``fails_at``, after its tool."""

    async def execute(self) -> list[Any]:
        said: list[Any] = []
        for step in range(self.config.get("steps", 4)):
            request = LLMRequest(messages=[{"role": "user", "content": f"step {step}"}])
            said.append((await self.request_llm(request)).output_text)
            said.append(await self.call_tool("note", {"step": step}))
            self.context.state["steps"] = self.context.state.get("steps", 0) + 1
            if self.config.get("fails_at") == step and COUNTS["failed"] < self.config.get("times", 1):
                COUNTS["failed"] += 1
                raise LLMConnectionError("the model went away")
        return said


class Batch(Pattern):
    """One batch of three calls, of which the second fails; then a retryable error, once."""

    async def execute(self) -> list[Any]:
        calls = [("note", {"step": 0}), ("note", {"step": 1, "fails": True}), ("note", {"step": 2})]
        outcomes = await self.call_tool_batch(calls)
        if not COUNTS["failed"]:
            COUNTS["failed"] += 1
            raise RetryableToolError("try again")
        return [str(outcome) for outcome in outcomes]


class Note:
    """Counts its calls, leaves a mark in the session state and an artifact in the run."""

    name = "note"
    durable_idempotent = False

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> dict[str, Any]:
        COUNTS[f"note {params['step']}"] += 1
        if params.get("fails"):
            raise RetryableToolError(f"step {params['step']} fails", hint="as it is told")
        context.state.setdefault("notes", []).append(params["step"])
        context.artifacts.append(RunArtifact(name=f"note {params['step']}"))
        return {"noted": params["step"], "count": COUNTS[f"note {params['step']}"]}


class Talking:
    """Says three words on its way."""

    name = "talk"

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(supports_streaming=True)

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        raise AssertionError("it can be streamed")

    async def invoke_stream(self, params: dict[str, Any], context: RunContext[Any]) -> AsyncGenerator[Any]:
        for word in ("one", "two", "three"):
            yield {"type": "word", "word": word}
        yield {"type": "result", "data": "six"}


class Careful:
    """Needs a person, unless it is asked to do something small."""

    name = "careful"
    approval_timeout_ms: int | None = 60_000

    def requires_approval(self, params: dict[str, Any], context: RunContext[Any]) -> bool:
        return params.get("query") != "small"

    async def invoke(self, params: dict[str, Any], context: RunContext[Any]) -> str:
        COUNTS["careful"] += 1
        return f"did {params.get('query')}"


class CarefulOnce(Pattern):
    """Calls the tool ``careful``, and fails once behind that, before it has become a step."""

    async def execute(self) -> Any:
        await self.request_llm(LLMRequest(messages=[{"role": "user", "content": "what?"}]))
        outcome = await self.context.tools["careful"].execute({"query": "big"}, call_id="the-call")
        if not COUNTS["failed"]:
            COUNTS["failed"] += 1
            raise LLMConnectionError("the model went away")
        return outcome.data


class Impatient(Careful):
    """Does not wait for long."""

    approval_timeout_ms = 50


class Delegating(Pattern):
    """Hands its input on as its config says, through the run's router."""

    async def execute(self) -> Any:
        router, options = self.context.agent_router, dict(self.config)
        for name in ("max_steps", "step_timeout_ms"):
            options.pop(name, None)
        to, how = options.pop("to"), options.pop("how", "delegate")
        self.context.state["seen by parent"] = self.context.input_text
        if how == "transfer":
            await router.transfer(to, self.context.input_text, self.context, **options)
        result = await router.delegate(to, self.context.input_text, self.context, **options)
        if not options.get("background"):
            return {"output": result.final_output, "stop": result.stop_reason, "child": result.run_id}
        while (task := await router.task_status(result.task_id)).status == "running":
            await asyncio.sleep(0)
        return {"output": task.output, "status": task.status, "unknown": await router.task_status("nobody")}


class Lingering(Pattern):
    """Changes the state, has an agent do its part of that, and goes on until it is cancelled."""

    async def execute(self) -> None:
        self.context.state |= {"old": 2, "of the parent": 1}
        await self.context.agent_router.delegate(
            "child", self.context.input_text, self.context, session_isolation="shared"
        )
        COUNTS["lingers"] += 1
        await asyncio.Event().wait()


class Forgetting(Pattern):
    """Delegates in the background, and ends when the child has, without asking after it."""

    async def execute(self) -> str:
        router: Any = self.context.agent_router
        task = await router.delegate("child", self.context.input_text, self.context, background=True)
        while await router._host.child_so_far(task.run_id) is None:
            await asyncio.sleep(0)
        return "done"


class Resuming(Pattern):
    """Asks the model, delegates, and fails once behind that."""

    async def execute(self) -> Any:
        await self.request_llm(LLMRequest(messages=[{"role": "user", "content": "whom?"}]))
        result = await self.context.agent_router.delegate("child", self.context.input_text, self.context)
        if not COUNTS["failed"]:
            COUNTS["failed"] += 1
            raise LLMConnectionError("the model went away")
        return result.run_id


class Deeper(Pattern):
    """Delegates to its own agent until it may not."""

    async def execute(self) -> Any:
        result = await self.context.agent_router.delegate(self.context.agent_id, "go on", self.context)
        return result.final_output if result.error_details is None else result.error_details.code


class Child(Pattern):
    """Says what it sees of its session, and leaves something there."""

    async def execute(self) -> Any:
        state = dict(self.context.state)
        self.context.state["child was here"] = self.context.input_text
        self.context.state.pop("short-lived", None)
        self.context.usage.tool_calls += 2
        return {"state": state, "transcript": len(self.context.transcript)}


class Budgeted(Pattern):
    """Says what it may spend."""

    async def execute(self) -> Any:
        budget = self.context.run_request.budget
        return None if budget is None else budget.model_dump(include={"max_tool_calls", "max_cost_usd"})
