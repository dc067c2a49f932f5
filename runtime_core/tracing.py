"""Spans, through the OpenTelemetry API where it is installed and somebody has configured an SDK; else nothing happens.

One trace goes from submit over the attempts on workers to their LLM and tool calls, and on to runs that a tool submits.
The context travels with the request, as W3C ``traceparent`` and ``tracestate`` in two hints; hints that begin with
``__`` are no part of what the request means (store/runs.py), so the same run under another trace is the same run.

Spans say who, when and how it ended: ids, models, tokens, codes of errors. What users and models said is never in them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import Any, Final

from runtime_core.contracts.run import RunRequest
from runtime_core.errors import RunlaneError

_propagator: Any = None
try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    _propagator = TraceContextTextMapPropagator()
except ModuleNotFoundError:  # the plain client does without
    trace = None

_HINTS: Final = {"traceparent": "__traceparent__", "tracestate": "__tracestate__"}

Value = str | int | float | bool


class SpanKind(StrEnum):
    """Names of opentelemetry.trace.SpanKind."""

    INTERNAL = "INTERNAL"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """A span that is open, or nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: Value | None) -> None:
        """Set attributes; ``__`` in a name stands for a dot. None sets nothing."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(name.replace("__", "."), value)

    def failed(self, code: str) -> None:
        """It ended with an error of that code."""
        if self._span is not None and trace is not None:
            self._span.set_attribute("error.type", code)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, code))

    def end(self) -> None:
        """Of one that ``begin`` made."""
        if self._span is not None:
            self._span.end()


def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: RunRequest | None = None, **attributes: Value | None
) -> AbstractContextManager[Span]:
    """A span around a block, and current in it; a child of the one that ``parent`` carries, else of the current one.

    An exception that leaves the block marks it as failed, a cancellation does not.
    """
    carried = {} if parent is None else _carried(parent)
    if trace is None or (not carried and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)):
        return nullcontext(Span())  # nobody has configured an SDK, and no context is to be handed on
    return _opened(name, kind, _propagator.extract(carried) if carried else None, attributes)


@contextmanager
def _opened(name: str, kind: SpanKind, context: Any, attributes: Mapping[str, Value | None]) -> Generator[Span]:
    assert trace is not None
    with trace.get_tracer("runlane").start_as_current_span(
        name, context=context, kind=trace.SpanKind[kind], record_exception=False, set_status_on_exception=False
    ) as opened:
        current = Span(opened)
        current.note(**attributes)
        try:
            yield current
        except Exception as error:
            current.failed(error.code if isinstance(error, RunlaneError) else type(error).__name__)
            raise


def begin(name: str, *, kind: SpanKind = SpanKind.INTERNAL, **attributes: Value | None) -> Span:
    """A child of the current span that is not current itself; its caller ends it."""
    if trace is None:
        return Span()
    opened = Span(trace.get_tracer("runlane").start_span(name, kind=trace.SpanKind[kind]))
    opened.note(**attributes)
    return opened


def recording() -> bool:
    """Whether the current span goes anywhere."""
    return trace is not None and trace.get_current_span().is_recording()


def carrying(request: RunRequest, carrier: Mapping[str, str] | None = None) -> RunRequest:
    """The request with the current trace context, or with that of ``carrier``; one that carries some is left alone."""
    if trace is None or _carried(request):
        return request
    found = dict(carrier or {})
    if carrier is None:
        _propagator.inject(found)
    hints = {_HINTS[name]: value for name, value in found.items() if name in _HINTS}
    return request.model_copy(update={"context_hints": request.context_hints | hints}) if hints else request


def _carried(request: RunRequest) -> dict[str, str]:
    hints = {name: request.context_hints.get(hint) for name, hint in _HINTS.items()}
    return {name: value for name, value in hints.items() if isinstance(value, str)}
