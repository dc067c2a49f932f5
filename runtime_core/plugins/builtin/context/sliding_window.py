"""Context assembler ``sliding_window``: the newest exchanges that there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_core.plugins.builtin.context.base import TokenBudgetAssembler
from runtime_core.plugins.builtin.context.exchanges import Exchange, Message, messages_of, newest_that_fit


class SlidingWindowAssembler(TokenBudgetAssembler):
    """For conversations in which what was said last counts most."""

    strategy = "sliding_window"
    newest_only = True

    def choose(self, given: Sequence[Exchange], unread: int) -> tuple[list[Message], list[Exchange]]:
        kept = newest_that_fit(given, self.budget)
        return messages_of(kept), kept
