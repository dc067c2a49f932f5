"""From journal lines to executions: one attempt's interval each, with its end or the death of its process."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.history import Exit, History
from tests.chaos.journal import Line, What


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One attempt as the journal shows it."""

    run: str
    session: str
    attempt: int
    pid: int
    start: float
    #: END, CUT, or None if its process died first.
    ended_by: What | None
    #: Infinite if nothing ended it.
    end: float
    effects: Sequence[float]

    @property
    def last_sign(self) -> float:
        """When it last did something by itself."""
        at_end = [self.end] if self.ended_by is What.END else []
        return max([self.start, *self.effects, *at_end])


def executions(history: History) -> list[Execution]:
    """All executions, by start."""
    exits: defaultdict[int, list[Exit]] = defaultdict(list)
    for exit_ in history.exits:
        exits[exit_.pid].append(exit_)
    by_attempt: defaultdict[tuple[str, int, int], list[Line]] = defaultdict(list)
    for line in history.journal:
        by_attempt[line.run, line.attempt, line.pid].append(line)
    found: list[Execution] = []
    for (run, attempt, pid), lines in by_attempt.items():
        starts = [index for index, line in enumerate(lines) if line.what is What.START]
        for index, following in zip(starts, [*starts[1:], len(lines)], strict=True):
            start, rest = lines[index], lines[index + 1 : following]
            last = next((line for line in rest if line.what in (What.END, What.CUT)), None)
            death = min((exit_.at for exit_ in exits[pid] if exit_.at >= start.at), default=math.inf)
            found.append(
                Execution(
                    run=run,
                    session=start.session,
                    attempt=attempt,
                    pid=pid,
                    start=start.at,
                    ended_by=last.what if last else None,
                    end=last.at if last else death,
                    effects=[line.at for line in rest if line.what is What.EFFECT],
                )
            )
    return sorted(found, key=lambda execution: execution.start)
