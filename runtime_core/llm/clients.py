"""Which client serves which ``llm`` section of an agent, and how long it lives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from runtime_core.llm.mock import MockClient
from runtime_core.llm.protocol import LLMClient

if TYPE_CHECKING:
    from runtime_core.config.schema import AgentDefinition, LLMOptions

#: Agent id, and its options as JSON.
_Key: TypeAlias = tuple[str, str]


def create_client(options: LLMOptions) -> LLMClient:
    """The client of ``options.provider``. Raises ConfigError for options that cannot work here and now."""
    if options.provider == "mock":
        return MockClient(options.model)
    from runtime_core.llm.models import ModelClient  # the LLM library takes more than a second to import

    return ModelClient(options)


@dataclass(kw_only=True)
class _Shared:
    client: LLMClient
    users: int = 0


class LLMClients:
    """The model clients of agents: made at their first use, shared by all runs of an agent with the same options.

    A client whose options no loaded config has any more is closed when the last run that uses it has ended.
    """

    def __init__(self) -> None:
        self._shared: dict[_Key, _Shared] = {}

    def prepare(self, agent: AgentDefinition) -> None:
        """Make the agent's client now. Raises ConfigError for options that cannot work here and now."""
        if agent.llm is not None:
            self._get(agent.id, agent.llm)

    def use(self, agent: AgentDefinition) -> AbstractAsyncContextManager[LLMClient | None]:
        """The agent's client, open for the length of the context; None for an agent without ``llm``."""
        return nullcontext() if agent.llm is None else self._use(agent.id, agent.llm)

    @asynccontextmanager
    async def _use(self, agent_id: str, options: LLMOptions) -> AsyncGenerator[LLMClient]:
        shared = self._get(agent_id, options)
        shared.users += 1
        try:
            yield shared.client
        finally:
            shared.users -= 1
            if shared.users == 0 and self._shared.get(_key(agent_id, options)) is not shared:
                await shared.client.close()

    async def keep(self, agents: Iterable[AgentDefinition]) -> None:
        """Drop the clients that none of ``agents`` has."""
        kept = {_key(agent.id, agent.llm) for agent in agents if agent.llm is not None}
        leaving = [self._shared.pop(key) for key in [*self._shared] if key not in kept]
        for shared in leaving:
            if shared.users == 0:
                await shared.client.close()

    async def close(self) -> None:
        await self.keep(())

    def _get(self, agent_id: str, options: LLMOptions) -> _Shared:
        key = _key(agent_id, options)
        if key not in self._shared:
            self._shared[key] = _Shared(client=create_client(options))
        return self._shared[key]


def _key(agent_id: str, options: LLMOptions) -> _Key:
    return agent_id, options.model_dump_json()
