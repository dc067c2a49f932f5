"""Context assembler ``head_tail``: how it began, and the newest that there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeInt

from runtime_core.plugins.builtin.context.base import TokenBudgetAssembler
from runtime_core.plugins.builtin.context.exchanges import (
    Exchange,
    Message,
    messages_of,
    newest_that_fit,
    note_of_omission,
)


class HeadTailAssembler(TokenBudgetAssembler):
    """For tasks that are stated in the beginning: the exchanges of the first ``head_messages`` messages always stay; a
    note stands in place of the middle.
    """

    strategy = "head_tail"

    class Config(TokenBudgetAssembler.Config):
        head_messages: NonNegativeInt = 3

    def choose(self, given: Sequence[Exchange], unread: int) -> tuple[list[Message], list[Exchange]]:
        count, seen = 0, 0
        while count < len(given) and seen < self.cfg.head_messages:
            seen += len(given[count].messages)
            count += 1
        head = list(given[:count])
        tail = newest_that_fit(given[count:], self.budget - sum(exchange.tokens for exchange in head))
        omitted = sum(len(exchange.messages) for exchange in given[count : len(given) - len(tail)])
        note = [note_of_omission(f"Summary: omitted {omitted} message(s) from the middle.")] if omitted else []
        return [*messages_of(head), *note, *messages_of(tail)], head + tail
