"""1 → 2 → 4 → 3 workers under load: balanced soon, and no partition moves without need."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from tests.chaos.arena import Arena, wait_until
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures
from tests.chaos.history import Applied, FaultKind, History, OwnerSeen
from tests.chaos.load import plan
from tests.chaos.report import Measured
from tests.chaos.scenarios.frame import Options, Outcome, adjusted, judge

_LOAD = Schedule(rate=6.0, seconds=(0.2, 1.0), workers=1)
#: Seconds that a step may take at all, the start of processes included.
_STEP_WITHIN_S = 60.0
#: Seconds of load before the first step, so that plugins are warm, and seconds that balance has to last.
_BETWEEN_S = 6.0
_LEASE_TTL_S = 6.0


async def scaling(options: Options) -> Outcome:
    load = adjusted(_LOAD, options)
    async with Arena(
        options.folder, partitions=load.partitions, seed=options.seed, console=options.console, look_every=0.05
    ) as arena:
        await arena.start(load.workers)
        steps = _Steps(arena, load.partitions)

        async def scale() -> None:
            await steps.pause()
            await steps.join(1)
            await steps.join(2)
            await steps.lose_one()

        runs = plan(arena.rng, sessions=load.sessions, seconds=load.seconds)
        await arena.alongside(scale(), arena.load.submit_at(load.rate, runs, lambda _: not steps.done))

        def measured(history: History, figures: Figures) -> list[Measured]:
            return steps.measured

        return await judge("scaling", options, arena, measured)


class _Steps:
    def __init__(self, arena: Arena, partitions: int) -> None:
        self._arena = arena
        self._partitions = partitions
        self.done = False
        self.measured: list[Measured] = []

    async def pause(self) -> None:
        await asyncio.sleep(_BETWEEN_S)

    async def join(self, count: int) -> None:
        arena, before = self._arena, len(self._arena.fleet.living)
        mark = len(arena.leases.changes), len(arena.leases.members)
        joiners = {worker.name for worker in await arena.fleet.grow(count)}
        begun = await wait_until(lambda: joiners <= arena.leases.members[-1][1], "they beat", _STEP_WITHIN_S)
        names = {worker.name for worker in arena.fleet.living}
        balanced = await wait_until(lambda: arena.leases.balanced(names), "balanced", _STEP_WITHIN_S)
        await self._note(f"{before} → {before + count}", balanced - begun, 5.0, mark)

    async def lose_one(self) -> None:
        arena = self._arena
        before = len(arena.fleet.living)
        mark = len(arena.leases.changes), len(arena.leases.members)
        victim = arena.rng.choice(arena.fleet.living)
        arena.fleet.shrink()
        died = arena.fleet.kill(victim)
        arena.injector.applied.append(Applied(kind=FaultKind.SIGKILL, at=died, pid=victim.pid, worker=victim.name))
        names = {worker.name for worker in arena.fleet.living} - {victim.name}
        balanced = await wait_until(lambda: arena.leases.balanced(names), "balanced", _STEP_WITHIN_S)
        await self._note(f"{before} → {before - 1}", balanced - died, _LEASE_TTL_S + 3.0, mark)
        self.done = True

    async def _note(self, step: str, seconds: float, at_most: float, mark: tuple[int, int]) -> None:
        await self.pause()
        owners, members = self._arena.leases.changes, self._arena.leases.members
        moved, needed = moves(owners, mark[0], members[mark[1] - 1 :], self._partitions)
        self.measured += [
            Measured(name=f"{step}: balanced after", value=seconds, at_most=at_most, unit=" s"),
            Measured(name=f"{step}: partitions moved", value=moved, at_most=needed),
        ]


def moves(
    owners: Sequence[OwnerSeen], since: int, members: Sequence[tuple[float, frozenset[str]]], partitions: int
) -> tuple[int, int]:
    """(partitions that moved, the least that had to), over the changes of owner from index ``since`` on.

    Members that join one after the other make stages, each with a minimum of its own; of a stage that ended before
    its moves had, only those that happened count as needed.
    """
    holder = {seen.partition: seen.worker for seen in owners[:since]}
    ends = [at for at, _ in members[1:]] + [float("inf")]
    moved = needed = 0
    rest = list(owners[since:])
    for (_, names), end in zip(members, ends, strict=True):
        least = _least(holder, names, partitions)
        happened = 0
        while rest and rest[0].at < end:
            seen = rest.pop(0)
            happened += bool(seen.worker)
            holder[seen.partition] = seen.worker
        moved += happened
        needed += min(happened, least) if end != float("inf") else least
    return moved, needed


def _least(holder: dict[int, str], names: frozenset[str], partitions: int) -> int:
    """Partitions without a member for holder, and those that members hold above the sticky quota."""
    held = Counter(worker for worker in holder.values() if worker in names)
    share, extra = divmod(partitions, len(names))
    by_holding = sorted(names, key=lambda name: (-held[name], name))
    surplus = sum(max(0, held[name] - share - (place < extra)) for place, name in enumerate(by_holding))
    return partitions - held.total() + surplus
