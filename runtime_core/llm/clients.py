"""Which client serves which ``llm`` section of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime_core.llm.mock import MockClient
from runtime_core.llm.protocol import LLMClient

if TYPE_CHECKING:
    from runtime_core.config.schema import LLMOptions


def create_client(options: LLMOptions) -> LLMClient:
    """The client of ``options.provider``. Raises ConfigError for options that cannot work here and now."""
    if options.provider == "mock":
        return MockClient(options.model)
    from runtime_core.llm.models import ModelClient  # the LLM library takes more than a second to import

    return ModelClient(options)
