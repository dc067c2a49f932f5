"""A model client whose requests are spans, named as OpenTelemetry's semantic conventions for generative AI have it
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from runtime_core.errors import RunlaneError
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, TextDelta
from runtime_core.llm.wrapped import WrappedClient
from runtime_core.tracing import SpanKind, begin, recording


class _TracedClient(WrappedClient):
    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        model = request.model or self.model_id
        span = begin(
            f"chat {model}".rstrip(),
            kind=SpanKind.CLIENT,
            gen_ai__operation__name="chat",
            gen_ai__provider__name=self._client.provider_name,
            gen_ai__request__model=model or None,
            gen_ai__request__max_tokens=request.max_tokens,
        )
        started = time.monotonic()
        first = True
        try:
            async with aclosing(cast("Any", self._client.stream(request))) as parts:
                async for part in parts:
                    if first:
                        span.note(runlane__first_token_ms=round((time.monotonic() - started) * 1000, 3))
                        first = False
                    if isinstance(part, LLMResponse):
                        span.note(
                            gen_ai__response__model=part.model or None,
                            gen_ai__usage__input_tokens=part.usage.input_tokens,
                            gen_ai__usage__output_tokens=part.usage.output_tokens,
                        )
                    yield part
        except Exception as error:
            span.failed(error.code if isinstance(error, RunlaneError) else type(error).__name__)
            raise
        finally:
            span.end()


def traced(client: LLMClient | None) -> LLMClient | None:
    """``client``, with a span for each request if the current span is recorded."""
    return client if client is None or not recording() else _TracedClient(client)
