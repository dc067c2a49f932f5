"""Where a worker's spans go: nowhere, unless RUNLANE_TRACING says so. The rest is OpenTelemetry's own (OTEL_…)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from runtime_core.config.settings import Settings
from runtime_core.errors import ConfigError

#: Seconds between two complaints about a collector that does not answer.
_COMPLAIN_EVERY = 60.0
#: Milliseconds that a worker which stops gives a collector.
_LAST_FLUSH_MS = 2_000


def start_tracing(settings: Settings, worker: str) -> Callable[[], None]:
    """Send spans from now on; returns what sends the last ones and stops. Raises ConfigError without the packages."""
    if settings.tracing == "off":
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"RUNLANE_TRACING is {settings.tracing!r}, and {error.name} is not installed",
            hint="pip install 'runlane[tracing]', or set RUNLANE_TRACING=off",
        ) from error
    named = {"service.instance.id": worker}
    if "OTEL_SERVICE_NAME" not in os.environ:
        named["service.name"] = "runlane-worker"
    provider = TracerProvider(resource=Resource.create(named))
    exporter = (
        ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
        if settings.tracing == "console"
        else OTLPSpanExporter()
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).addFilter(_Seldom())
    trace.set_tracer_provider(provider)

    def stop() -> None:
        provider.force_flush(_LAST_FLUSH_MS)
        provider.shutdown()

    return stop


class _Seldom(logging.Filter):
    """Lets through one record a minute: a collector that is away is told of once, not with each batch."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -_COMPLAIN_EVERY

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last < _COMPLAIN_EVERY:
            return False
        self._last = now
        return True
