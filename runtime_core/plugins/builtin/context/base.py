"""What the builtin context assemblers have in common: they choose, and say what they left out."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, NonNegativeInt, PositiveInt

from runtime_core.contracts.run import RunRequest
from runtime_core.contracts.session import SessionArtifact
from runtime_core.plugins.builtin.context.exchanges import Exchange, Message, exchanges, messages_of
from runtime_core.plugins.protocols import SessionManager
from runtime_core.plugins.typed_config import TypedConfig

logger = logging.getLogger(__name__)

#: Messages that are read of a long transcript at first: what the default budget has room for, if they are of a usual
#: length.
_FIRST_READ = 256


@dataclass(frozen=True, kw_only=True)
class Assembly:
    transcript: list[Message]
    session_artifacts: list[SessionArtifact]
    #: What was left out, and why; the run's ``context.assembly_metadata``.
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


class Assembler(TypedConfig, ABC):
    """Keeps whole exchanges of the transcript, and the newest ``max_artifacts`` artifacts. What is stored stays."""

    strategy: ClassVar[str]
    #: Whether it keeps the newest exchanges without a gap: then it does not read what lies before those.
    newest_only: ClassVar[bool] = False

    async def assemble(
        self, *, request: RunRequest, session_state: dict[str, Any], session_manager: SessionManager
    ) -> Assembly:
        given, unread = await self._read(request.session_id, session_manager)
        artifacts = await session_manager.list_artifacts(request.session_id)
        transcript, kept = self.choose(given, unread)
        most: int = self.cfg.max_artifacts
        kept_tokens, tokens = (sum(exchange.tokens for exchange in some) for some in (kept, given))
        return Assembly(
            transcript=transcript,
            session_artifacts=artifacts[-most:] if most else [],
            metadata={
                "assembler": self.strategy,
                "strategy": self.strategy,
                "kept_tokens": kept_tokens,
                "omitted_messages": unread + len(messages_of(given)) - len(messages_of(kept)),
                "omitted_tokens": None if unread else tokens - kept_tokens,
                "omitted_artifacts": max(0, len(artifacts) - most),
                **self.more_metadata(),
            },
        )

    async def _read(self, session_id: str, sessions: SessionManager) -> tuple[list[Exchange], int]:
        """(exchanges, messages before them that need not be read)"""
        read_newest = getattr(sessions, "load_newest_messages", None) if self.newest_only else None
        if read_newest is None:
            return exchanges(await sessions.load_messages(session_id)), 0
        limit = _FIRST_READ
        while True:
            messages, total = await read_newest(session_id, limit)
            given = exchanges(messages)
            if len(messages) >= total:
                return given, 0
            # If not even the first is kept, whose beginning may not be there, none before it would be.
            if len(self.choose(given, 0)[1]) < len(given):
                return given, total - len(messages)
            limit *= 2

    @abstractmethod
    def choose(self, given: Sequence[Exchange], unread: int) -> tuple[list[Message], list[Exchange]]:
        """The transcript for the run, and the exchanges that it is made of; ``unread`` messages stand before them."""

    def more_metadata(self) -> dict[str, Any]:
        return {}


class TokenBudgetAssembler(Assembler):
    """Keeps what ``max_input_tokens`` less ``reserve_for_response`` have room for; tokens are as ``tokens_of`` says."""

    class Config(BaseModel):
        max_input_tokens: PositiveInt = 8_000
        max_artifacts: NonNegativeInt = 10
        reserve_for_response: NonNegativeInt = 2_000

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        if not self.budget:
            logger.warning(
                "%s keeps nothing of a session: reserve_for_response (%d) leaves no room in max_input_tokens (%d)",
                *(type(self).__name__, self.cfg.reserve_for_response, self.cfg.max_input_tokens),
            )

    @property
    def budget(self) -> int:
        return max(0, self.cfg.max_input_tokens - self.cfg.reserve_for_response)

    def more_metadata(self) -> dict[str, Any]:
        return {"budget_input_tokens": self.cfg.max_input_tokens, "token_counter": "characters/4"}
