"""Traces of a real worker, as a collector gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from celery import Celery
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from runtime_core.contracts.run import RunRequest
from runtime_core.ids import ingress_run_id
from runtime_core.tracing import carrying
from tests.integration.fleet.conftest import Fleet, request, wait_until

#: As a service would send them: version, trace, span of the service, flags (sampled).
_TRACE, _CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_CARRIER = {"traceparent": f"00-{_TRACE}-{_CALLER}-01"}


class Collector:
    """A collector of OTLP over HTTP that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: set[tuple[str, str]] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources |= {(one.key, one.value.string_value) for one in sent.resource.attributes}
                    collector.spans += [span for scope in sent.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


async def test_a_trace_goes_from_the_submitter_over_the_worker_to_its_tools(fleet: Fleet, collector: Collector) -> None:
    settings = {
        "RUNLANE_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    await fleet.start(1, **settings)
    asked = carrying(request("/tool calc 6*7", "s1", agent="assistant"), _CARRIER)
    result = await (await fleet.client.submit(asked)).result(timeout=30)
    await fleet.client.result((await fleet.client.submit(request("raise ValueError", "s2"))).run_id, timeout=30)
    with Celery("stranger", broker=fleet.redis_url, set_as_current=False) as app:
        body = {"agent_id": "journal", "session_id": "c", "input_text": "echo hi"}
        sent = app.send_task("runlane.submit", [body], queue="runs", headers=_CARRIER)

    await wait_until(lambda: len(collector.named("run journal")) == 2, "the spans of all runs have come")
    (run,) = collector.named("run assistant")
    assert (run.trace_id.hex(), run.parent_span_id.hex()) == (_TRACE, _CALLER)
    assert run.kind == Span.SPAN_KIND_CONSUMER
    told = {one.key: one.value for one in run.attributes}
    assert told["runlane.run_id"].string_value == result.run_id
    assert told["runlane.stop_reason"].string_value == "completed"
    for child in (*collector.named("execute_tool calc"), *collector.named("chat mock")):
        assert (child.trace_id, child.parent_span_id) == (run.trace_id, run.span_id)
    assert len(collector.named("execute_tool calc")) == 1
    failed, foreign = sorted(collector.named("run journal"), key=lambda span: span.trace_id.hex() == _TRACE)
    assert (failed.status.code, failed.status.message) == (2, "pattern.error")
    assert foreign.parent_span_id.hex() == _CALLER, "the headers of a plain Celery client's message"
    assert {one.key: one.value.string_value for one in foreign.attributes}["runlane.run_id"] == ingress_run_id(sent.id)
    assert ("service.name", "runlane-worker") in collector.resources
    assert any(key == "service.instance.id" and value.startswith("w0@") for key, value in collector.resources)
    assert "6*7" not in str(collector.spans)


async def test_a_collector_that_is_away_harms_no_run_and_is_told_of_once(fleet: Fleet) -> None:
    nowhere = {
        "RUNLANE_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    (worker,) = await fleet.start(1, **nowhere)
    for number in range(20):
        run = RunRequest(agent_id="journal", session_id="s", input_text=f"echo {number}")
        assert await fleet.client.run(run, timeout=30) == str(number)

    def complaints() -> int:
        log = worker.log.read_text()
        return log.count("Transient error") + log.count("Failed to export") + log.count("Exception while exporting")

    await wait_until(lambda: complaints() > 0, "the log says that the collector is away")
    worker.stop()
    assert complaints() <= 3, worker.log.read_text()[-3000:]
    assert worker.exit_code == 0
