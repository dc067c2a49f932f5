"""Spans of runs: one trace from submit to tools, nothing of what was said in it, nothing at all where it is off."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from producer.client import AsyncClient
from producer.sync_client import Client
from runtime_core.contracts.context import RunScope
from runtime_core.contracts.run import RunRequest
from runtime_core.store.runs import request_digest
from runtime_core.tracing import carrying, span
from tests.unit.kernel_setup import plugin, request, runtime

#: OpenTelemetry takes one provider per process, and then no other.
_EXPORTER = InMemorySpanExporter()
_PROVIDER = TracerProvider()
_PROVIDER.add_span_processor(SimpleSpanProcessor(_EXPORTER))


class Spans:
    def all(self) -> dict[str, ReadableSpan]:
        return {one.name: one for one in _EXPORTER.get_finished_spans()}

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.all()[name].attributes or {})

    def parent(self, name: str) -> str | None:
        above = self.all()[name].parent
        ids = {one.context.span_id: one.name for one in self.all().values() if one.context is not None}
        return None if above is None else ids.get(above.span_id, "elsewhere")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    monkeypatch.setattr(trace, "get_tracer", _PROVIDER.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: _PROVIDER)
    _EXPORTER.clear()
    return Spans()


async def test_a_run_its_model_and_its_tools_are_one_trace(spans: Spans) -> None:
    with span("caller"):
        run = carrying(request("/tool calc 6 * 7"))

    result = await runtime().execute(run, RunScope(pinned=True, attempt=2, config_version=3))

    assert spans.parent("run a") == "caller"
    assert spans.parent("chat mock") == spans.parent("execute_tool calc") == "run a"
    assert len({one.context.trace_id for one in spans.all().values() if one.context is not None}) == 1
    told = spans.attributes("run a")
    assert (told["runlane.run_id"], told["runlane.session_id"], told["runlane.attempt"]) == (run.run_id, "s", 2)
    assert (told["runlane.config_version"], told["runlane.stop_reason"]) == (3, "completed")
    model = spans.attributes("chat mock")
    assert model["gen_ai.provider.name"] == "mock"
    assert model["gen_ai.usage.input_tokens"] > 0
    assert spans.attributes("execute_tool calc")["gen_ai.tool.name"] == "calc"
    assert "42" in str(result.final_output)


async def test_what_was_said_is_in_no_span(spans: Spans) -> None:
    host = runtime(tools=[{"id": "failing", **plugin("FailingTool")}])

    await host.run_detailed(request("/tool failing the-secret", session="s1"))

    assert "execute_tool failing" in spans.all()
    for one in spans.all().values():
        assert "the-secret" not in one.to_json()


async def test_failures_carry_their_code(spans: Spans) -> None:
    await runtime(pattern=plugin("Raising", raises="value")).run_detailed(request("x"))
    run = spans.all()["run a"]
    assert not run.status.is_ok
    assert spans.attributes("run a")["error.type"] == "pattern.error"
    assert spans.attributes("run a")["runlane.stop_reason"] == "failed"


async def test_a_request_keeps_the_trace_that_it_carries_and_its_meaning(spans: Spans) -> None:
    plain = RunRequest(agent_id="a", session_id="s", input_text="hi", run_id="r", context_hints={"mine": 1})
    with span("one"):
        first = carrying(plain)
    with span("two"):
        second = carrying(plain)
        assert carrying(first) == first
    assert first.context_hints["mine"] == 1
    assert first.context_hints["__traceparent__"] != second.context_hints["__traceparent__"]
    digests = {request_digest(one.model_dump_json()) for one in (plain, first, second)}
    assert len(digests) == 1, "the same run under another trace is the same run"
    assert carrying(plain) is plain, "there is no trace to carry"


async def test_a_bad_context_is_a_new_trace(spans: Spans) -> None:
    odd = request("hi", context_hints={"__traceparent__": "nonsense", "__tracestate__": 7})

    await runtime().execute(odd)

    assert spans.parent("run a") is None


async def test_submit_is_a_span_and_the_run_carries_it(spans: Spans, redis_url: str) -> None:
    async with AsyncClient(redis_url) as client:
        with span("service"):
            handle = await client.submit(RunRequest(agent_id="a", session_id="s", input_text="hi"))
            many = await client.submit_many([RunRequest(agent_id="a", session_id="s", input_text="hi")])
        assert spans.parent("submit a") == spans.parent("submit many") == "service"
        assert spans.attributes("submit a") == {"runlane.run_id": handle.run_id}
        assert len(many) == 1
        story = await client.story(handle.run_id)
    submitted = spans.all()["submit a"].context
    assert submitted is not None
    assert story.request is not None
    assert f"{submitted.trace_id:032x}-{submitted.span_id:016x}" in story.request.context_hints["__traceparent__"]


def test_a_blocking_submit_is_a_span_and_the_run_carries_it(spans: Spans, redis_url: str) -> None:
    with Client(redis_url) as client:
        with span("service"):
            handle = client.submit(RunRequest(agent_id="b", session_id="s", input_text="hi"))
        story = client.story(handle.run_id)
    submitted = spans.all()["submit b"].context
    assert spans.parent("submit b") == "service"
    assert submitted is not None
    assert story.request is not None
    assert f"{submitted.trace_id:032x}-{submitted.span_id:016x}" in story.request.context_hints["__traceparent__"]


async def test_a_trace_from_elsewhere_goes_on_through_a_process_that_records_none() -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    parent = request("hi", context_hints={"__traceparent__": f"00-{trace_id}-b7ad6b7169203331-01"})
    with span("run", parent=parent):
        assert trace_id in carrying(request("a child")).context_hints["__traceparent__"]


async def test_nothing_is_recorded_or_carried_where_nobody_configured_it() -> None:
    plain = request("hi")
    with span("nothing") as nothing:
        nothing.note(anything=1)
        nothing.failed("code")
        assert carrying(plain) is plain
    await runtime().execute(plain)
    assert plain.context_hints == {}


def test_the_client_works_where_opentelemetry_is_not_installed() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
import asyncio
from runtime_core import tracing
from runtime_core.contracts.run import RunRequest
from producer.client import AsyncClient
assert tracing.trace is None
run = RunRequest(agent_id="a", session_id="s", input_text="hi")
with tracing.span("x", kind=tracing.SpanKind.PRODUCER, parent=run, a=1) as opened:
    opened.note(b=2)
    opened.failed("c")
    assert tracing.carrying(run) is run
    assert not tracing.recording()
    tracing.begin("y").end()
print("works")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "works\n", done.stderr
