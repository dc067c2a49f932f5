"""A model client around another one: the base of those that add one thing to each request of a run."""

from __future__ import annotations

from typing import Any

from runtime_core.llm.protocol import LLMClient


class WrappedClient(LLMClient):
    """``client`` under its own name; a wrapper adds ``stream``. It lives as long as a run and closes nothing."""

    def __init__(self, client: LLMClient) -> None:
        self._client = client
        self.model_id = client.model_id
        self.provider_name = client.provider_name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying asks for these before there is a client
            raise AttributeError(name)
        return getattr(self._client, name)
