"""Events ``otel_bridge``: a span of OpenTelemetry per event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import PositiveInt

from runtime_core.errors import PluginLoadError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.plugins.builtin.events.observing import ObservingBus, ObservingConfig
from runtime_core.redaction import redacted


class OtelBridgeBus(ObservingBus):
    """A span of no length per event, ``openagents.<event>``, with the payload as attributes ``oa.<key>``.

    Names are those of the openagents SDK. The span is a child of the current one, the run's where RUNLANE_TRACING is
    on. Without a tracer provider, which the host sets up, nothing happens. The text of users and models is among the
    payload: whoever names this bus sends it out. Secrets are left out by their keys.
    """

    class Config(ObservingConfig):
        tracer_name: str = "openagents"
        #: Characters of an attribute.
        max_attribute_chars: PositiveInt = 4_096

    cfg: Config

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        try:
            from opentelemetry import trace
        except ModuleNotFoundError as error:
            raise PluginLoadError(
                "the events type 'otel_bridge' needs the package 'opentelemetry-api'",
                hint="pip install 'runlane[tracing]'",
            ) from error
        self._tracer = trace.get_tracer(self.cfg.tracer_name)

    async def observe(self, event: RuntimeEvent) -> None:
        with self._tracer.start_as_current_span(f"openagents.{event.name}") as span:
            if not span.is_recording():
                return
            limit = self.cfg.max_attribute_chars
            for key, value in redacted(event.stamped_payload, max_length=limit).items():
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                span.set_attribute(f"oa.{key}", text if len(text) <= limit + 50 else f"{text[:limit]}…")
