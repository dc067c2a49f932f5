"""Context assembler ``importance_weighted``: what matters most first, as far as there is room."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_core.plugins.builtin.context.base import TokenBudgetAssembler
from runtime_core.plugins.builtin.context.exchanges import Exchange, Message, messages_of


class ImportanceWeightedAssembler(TokenBudgetAssembler):
    """Instructions in front, then the newest exchange, then those in which tools were called, then the others; the
    newer ones first. One that is too large is passed over, so there may be gaps; the order is kept.
    """

    strategy = "importance_weighted"

    def choose(self, given: Sequence[Exchange], unread: int) -> tuple[list[Message], list[Exchange]]:
        ranked = sorted(range(len(given)), key=lambda index: self._rank(index, given), reverse=True)
        room, chosen = self.budget, set[int]()
        for index in ranked:
            if given[index].tokens <= room:
                chosen.add(index)
                room -= given[index].tokens
        kept = [exchange for index, exchange in enumerate(given) if index in chosen]
        return messages_of(kept), kept

    @staticmethod
    def _rank(index: int, given: Sequence[Exchange]) -> tuple[int, int]:
        roles = {message.get("role") for message in given[index].messages}
        if index == 0 and "user" not in roles:
            return 3, index
        if index == len(given) - 1:
            return 2, index
        return int("tool" in roles), index
