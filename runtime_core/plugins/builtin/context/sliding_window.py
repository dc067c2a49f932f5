"""Context assembler ``sliding_window``: the newest exchanges that there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_core.plugins.builtin.context.base import TokenBudgetAssembler
from runtime_core.plugins.builtin.context.exchanges import Exchange, newest_that_fit


class SlidingWindowAssembler(TokenBudgetAssembler):
    """For conversations in which what was said last counts most."""

    strategy = "sliding_window"
    newest_only = True

    def keep(self, given: Sequence[Exchange]) -> list[Exchange]:
        return newest_that_fit(given, self.budget)
