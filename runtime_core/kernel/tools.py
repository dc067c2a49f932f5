"""From a tool plugin to what a pattern calls: bound to its run, guarded, counted, and executed by the executor."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from runtime_core.contracts.context import RunContext, current_call_id
from runtime_core.contracts.run import ErrorDetails, RunArtifact
from runtime_core.contracts.tool import BatchResult, ToolExecutionRequest, ToolExecutionResult, ToolExecutionSpec
from runtime_core.errors import ToolError, ToolValidationError
from runtime_core.foreign_errors import as_ours, is_foreign
from runtime_core.ids import ScopedRunId, scoped_run_id
from runtime_core.kernel.approvals import Approvals
from runtime_core.kernel.background_jobs import cancel_job, poll_job, submit_job
from runtime_core.kernel.budget import check_tool_budget
from runtime_core.kernel.journal import Journal
from runtime_core.kernel.optional_methods import call_if_present, optional_method
from runtime_core.kernel.steps import Note, tool_error
from runtime_core.kernel.threads import LiveThreads
from runtime_core.plugins.builtin.executor.calling import refuse_unless
from runtime_core.plugins.builtin.executor.side_by_side import side_by_side
from runtime_core.plugins.builtin.pattern.run_notes import next_call_id
from runtime_core.tracing import span

logger = logging.getLogger(__name__)

#: In ``context.scratch``: tools of whose repeats the run has warned.
_WARNED_KEY = "warned_tools"
#: In ``context.scratch``: artifacts, from the first on, that notes of calls hold.
_NOTED_ARTIFACTS_KEY = "noted_artifacts"


class AsyncTool:
    """A tool plugin as executors see it: ``invoke`` can be awaited, a plain function runs in a thread."""

    def __init__(self, tool: Any, threads: LiveThreads, run: ScopedRunId) -> None:
        self._tool = tool
        self._threads = threads
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying asks for these before there is a tool
            raise AttributeError(name)
        return getattr(self._tool, name)

    async def invoke(self, params: dict[str, Any], context: Any) -> Any:
        if inspect.iscoroutinefunction(self._tool.invoke):
            return await self._tool.invoke(params, context)
        outcome = await self._threads.call(self._run, self._tool.invoke, params, context)
        return await outcome if inspect.isawaitable(outcome) else outcome


class BoundTool:
    """A tool within one run.

    1. Before each call it checks the budget of tool calls; ``invoke`` first waits for the scope's guard, which the
       caller of ``execute`` has done.
    2. A failure is raised as a ToolError, whatever the tool raised; SystemExit and its like pass as they are.
    3. Every way to call the tool passes the executor and its policy.
    4. What it does not have itself, it has from the tool.
    """

    def __init__(
        self,
        tool_id: str,
        tool: Any,
        executor: Any,
        context: RunContext[Any],
        threads: LiveThreads,
        journal: Journal,
        approvals: Approvals,
    ) -> None:
        self.tool_id = tool_id
        self._tool = tool
        self._executor = executor
        self._context = context
        self._journal = journal
        self._approvals = approvals
        run = scoped_run_id(context.scope.tenant, context.run_id)
        #: Background jobs of this run → the id of the call that began them.
        self._jobs: dict[str, str] = {}
        self._async_tool = AsyncTool(tool, threads, run)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying asks for these before there is a tool
            raise AttributeError(name)
        return getattr(self._tool, name)

    def describe(self) -> dict[str, Any]:
        """``{name, description, parameters}``; of a tool without ``describe``, from its attributes and ``schema()``."""
        if (describe := optional_method(self._tool, "describe")) is not None:
            return describe()
        schema = optional_method(self._tool, "schema")
        return {
            "name": getattr(self._tool, "name", "") or self.tool_id,
            "description": getattr(self._tool, "description", "") or inspect.getdoc(self._tool) or "",
            "parameters": schema() if schema else {"type": "object", "properties": {}},
        }

    def execution_spec(self) -> ToolExecutionSpec:
        specify = optional_method(self._tool, "execution_spec")
        return specify() if specify else ToolExecutionSpec()

    async def invoke(self, params: dict[str, Any] | None, context: Any = None) -> Any:
        """The data of ``execute``. ``context`` is accepted for patterns that pass it; the run's own counts."""
        await self._context.scope.guard()
        try:
            return (await self.execute(params)).data
        except ToolError as error:
            if (known := _as_known_to_caller(error)) is not error:
                raise known from error
            raise

    async def invoke_stream(self, params: dict[str, Any] | None, context: Any = None) -> AsyncIterator[dict[str, Any]]:
        """What ``invoke`` returns, as the only part: what the tool says on the way goes out as ``tool.delta``."""
        yield {"type": "result", "data": await self.invoke(params)}

    async def invoke_batch(self, items: list[Any], context: Any = None) -> list[BatchResult]:
        """A call for each item's ``params``; how each ended, in their order. For patterns of the openagents SDK."""
        limit: int = getattr(self._executor, "max_concurrency", 1)
        beside = limit > 1 and self.execution_spec().concurrency_safe
        call_ids = [next_call_id(self._context, self.tool_id) for _ in items]
        calls = [(beside, partial(self._item, item, call_id)) for item, call_id in zip(items, call_ids, strict=True)]
        return await side_by_side(calls, limit=limit)

    async def _item(self, item: Any, call_id: str) -> BatchResult:
        await self._context.scope.guard()
        try:
            result = await self.execute(item.params, call_id=call_id)
        except ToolError as error:
            exception = _as_known_to_caller(error)
            return BatchResult(item_id=item.item_id, success=False, error=error.message, exception=exception)
        return BatchResult(item_id=item.item_id, success=True, data=result.data)

    async def execute(self, params: dict[str, Any] | None, *, call_id: str | None = None) -> ToolExecutionResult:
        """Call the tool and return the executor's result; a call without an id is given the next one.

        A call that an earlier attempt made is answered from the run's journal. One that needs a person waits for them.
        """
        run = self._context
        check_tool_budget(run.run_request.budget, run.usage)
        run.usage.tool_calls += 1
        arguments = dict(params or {})
        call_id = call_id or next_call_id(run, self.tool_id)
        key = self._journal.key("tool", self.tool_id, arguments)
        if (note := await self._journal.recall(key)) is not None:
            if note.error is not None:
                raise tool_error(note.error)
            return ToolExecutionResult(tool_id=self.tool_id, success=True, data=note.value, metadata=note.metadata)
        with self._journal.tool_call():
            return await self._make(arguments, call_id, key)

    async def _make(self, arguments: dict[str, Any], call_id: str, key: str) -> ToolExecutionResult:
        """Make a call for the first time, and note what it brought."""
        run = self._context
        await self._warn_of_repeats()
        made = len(run.artifacts)
        try:
            await self._approvals.check(self.tool_id, self._tool, arguments, call_id)
            with span(
                f"execute_tool {self.tool_id}", gen_ai__operation__name="execute_tool", gen_ai__tool__name=self.tool_id
            ):
                result = await self._execute(arguments, call_id)
        except ToolError as error:
            self._journal.note(Note(key=key, error=ErrorDetails.from_exception(error)))
            raise
        # Of calls that go side by side the first that ends takes what all have made so far.
        made = max(made, run.scratch.get(_NOTED_ARTIFACTS_KEY, 0))
        artifacts = [RunArtifact.model_validate(one, from_attributes=True) for one in run.artifacts[made:]]
        run.scratch[_NOTED_ARTIFACTS_KEY] = len(run.artifacts)
        self._journal.note(Note(key=key, value=result.data, metadata=dict(result.metadata), artifacts=artifacts))
        return result

    async def _execute(self, arguments: dict[str, Any], call_id: str) -> ToolExecutionResult:
        outer = current_call_id.set(call_id)
        result: ToolExecutionResult | None = None
        failure: BaseException | None = None
        try:
            await self._prepare(arguments)
            result = _as_result(self.tool_id, await self._call(self._request(arguments, call_id)))
            if not result.success:
                raise _error_of(result)
            return result
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                await self._after(arguments, result, failure)
            finally:
                current_call_id.reset(outer)

    async def _call(self, request: ToolExecutionRequest) -> Any:
        """Have the executor call the tool; what a streaming tool says on the way goes out as ``tool.delta``."""
        executor = self._executor
        if (evaluate := optional_method(executor, "evaluate_policy")) is not None:
            refuse_unless(await evaluate(request), self.tool_id)
        stream = optional_method(executor, "execute_stream")
        if stream is None or not request.execution_spec.supports_streaming:
            return await executor.execute(request)
        data: Any = None
        async with aclosing(stream(request)) as parts:
            async for part in parts:
                if isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "result":
                    data = cast("dict[str, Any]", part).get("data")
                else:
                    await self._context.event_bus.emit(
                        "tool.delta", tool_id=self.tool_id, call_id=request.call_id, chunk=part
                    )
        return data

    async def _warn_of_repeats(self) -> None:
        """Once per run: if its process dies within this tool, the tool is called again."""
        run = self._context
        warned: set[str] = run.scratch.setdefault(_WARNED_KEY, set())
        if not run.run_request.durable or getattr(self._tool, "durable_idempotent", True) or self.tool_id in warned:
            return
        warned.add(self.tool_id)
        await run.event_bus.emit(
            "run.durable_idempotency_warning",
            tool_id=self.tool_id,
            hint="a call that was cut is made again when the run resumes: have the tool use its call_id as a key",
        )

    async def invoke_background(self, params: dict[str, Any] | None, context: Any = None) -> Any:
        """Have the tool begin a job, and return its handle; counts as a call, and may need a person as one."""
        run, arguments = self._context, dict(params or {})
        await run.scope.guard()
        check_tool_budget(run.run_request.budget, run.usage)
        run.usage.tool_calls += 1
        call_id = next_call_id(run, self.tool_id)
        with self._journal.tool_call():
            await self._approvals.check(self.tool_id, self._tool, arguments, call_id)
        await self._prepare(arguments)
        handle = await submit_job(self.tool_id, self._tool, arguments, run, call_id)
        self._jobs[handle.job_id] = call_id
        return handle

    async def poll_job(self, handle: Any, context: Any = None) -> Any:
        """How a job stands."""
        call_id: str = self._jobs.get(handle.job_id) or str(handle.job_id)
        return await poll_job(self.tool_id, self._tool, handle, self._context, call_id)

    async def cancel_job(self, handle: Any, context: Any = None) -> bool:
        """Whether the job was ended."""
        return await cancel_job(self.tool_id, self._tool, handle, self._context)

    async def fallback(self, error: Exception, params: dict[str, Any], context: Any = None) -> Any:
        """The tool's own fallback; one without raises ``error``."""
        fallback = optional_method(self._tool, "fallback")
        if fallback is None:
            raise error
        return await fallback(error, params, self._context)

    def _request(self, params: dict[str, Any], call_id: str) -> ToolExecutionRequest:
        return ToolExecutionRequest(
            tool_id=self.tool_id,
            tool=self._async_tool,
            params=params,
            context=self._context,
            call_id=call_id,
            execution_spec=self.execution_spec(),
        )

    async def _prepare(self, params: dict[str, Any]) -> None:
        if (validate := optional_method(self._tool, "validate_params")) is not None:
            valid, problem = validate(params)
            if not valid:
                raise ToolValidationError(problem or None, tool_id=self.tool_id)
        await call_if_present(self._tool, "before_invoke", params, self._context)

    async def _after(
        self, params: dict[str, Any], result: ToolExecutionResult | None, failure: BaseException | None
    ) -> None:
        data = result.data if result is not None and result.success else None
        try:
            await call_if_present(self._tool, "after_invoke", params, self._context, data, failure)
        except Exception:
            logger.exception("after_invoke of tool %s failed", self.tool_id)


def bind_tools(
    tools: dict[str, Any],
    executor: Any,
    context: RunContext[Any],
    threads: LiveThreads,
    journal: Journal,
    approvals: Approvals,
) -> dict[str, BoundTool]:
    return {
        tool_id: BoundTool(tool_id, tool, executor, context, threads, journal, approvals)
        for tool_id, tool in tools.items()
    }


def _as_known_to_caller(error: ToolError) -> BaseException:
    """Who calls ``invoke``, a pattern of theirs, knows their classes."""
    cause = error.__cause__
    return cause if cause is not None and is_foreign(cause) else error


def _as_result(tool_id: str, outcome: Any) -> ToolExecutionResult:
    """What the executor returned, or the result that the tool itself returned inside of it; plain data is a success."""
    if not _is_result(outcome):
        return ToolExecutionResult(tool_id=tool_id, success=True, data=outcome)
    inner = outcome.data if _is_result(outcome.data) else outcome
    return ToolExecutionResult(
        tool_id=tool_id,
        success=inner.success,
        data=inner.data,
        error=inner.error,
        exception=inner.exception,
        metadata=dict(inner.metadata or {}),
    )


def _is_result(value: Any) -> bool:
    """Results of the openagents SDK have the same fields in a class of its own."""
    fields = ("tool_id", "success", "data", "error", "exception", "metadata")
    return isinstance(value, ToolExecutionResult) or all(hasattr(value, name) for name in fields)


def _error_of(result: ToolExecutionResult) -> ToolError:
    """The ToolError of a failed result, with the tool's id; another exception becomes its cause."""
    given: BaseException | None = result.exception
    ours = None if given is None else as_ours(given)
    error = ours if isinstance(ours, ToolError) else ToolError(result.error or None)
    if error is not given:
        error.__cause__ = given
    error.with_context(tool_id=result.tool_id)
    return error
