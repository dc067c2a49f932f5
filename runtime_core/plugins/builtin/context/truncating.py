"""Context assembler ``truncating``: the newest messages, by their number."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, NonNegativeInt

from runtime_core.plugins.builtin.context.base import Assembler
from runtime_core.plugins.builtin.context.exchanges import Exchange, Message, messages_of, note_of_omission


class TruncatingAssembler(Assembler):
    """The newest exchanges of at most ``max_messages`` messages; a note in front says how many are missing."""

    strategy = "truncating"
    newest_only = True

    class Config(BaseModel):
        max_messages: NonNegativeInt = 20
        max_artifacts: NonNegativeInt = 10
        include_summary_message: bool = True

    def choose(self, given: Sequence[Exchange], unread: int) -> tuple[list[Message], list[Exchange]]:
        room: int = self.cfg.max_messages
        first = len(given)
        while first and len(given[first - 1].messages) <= room:
            first -= 1
            room -= len(given[first].messages)
        kept, omitted = list(given[first:]), unread + sum(len(exchange.messages) for exchange in given[:first])
        transcript = messages_of(kept)
        if omitted and self.cfg.include_summary_message:
            transcript.insert(0, note_of_omission(f"Summary: omitted {omitted} older message(s)"))
        return transcript, kept
