"""Rolling restarts under load: partitions move in order, and no run notices."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from runtime_core.clock import boot_seconds
from tests.chaos.arena import Arena, wait_until
from tests.chaos.faults import Schedule
from tests.chaos.figures import Figures
from tests.chaos.history import Applied, FaultKind, History
from tests.chaos.journal import What
from tests.chaos.load import plan
from tests.chaos.report import Measured
from tests.chaos.scenarios.frame import Options, Outcome, adjusted, judge

_ROUNDS = 5
_LOAD = Schedule(rate=16.0, seconds=(0.2, 1.0))
#: Seconds for a worker to leave and its successor to get its share.
_RESTART_WITHIN_S = 60.0


async def rolling(options: Options) -> Outcome:
    load = adjusted(_LOAD, options)
    async with Arena(
        options.folder, partitions=load.partitions, seed=options.seed, console=options.console, look_every=0.05
    ) as arena:
        await arena.start(load.workers)
        restarting = True

        async def restart_all() -> None:
            nonlocal restarting
            for _ in range(_ROUNDS):
                for worker in list(arena.fleet.living):
                    worker.process.terminate()
                    arena.injector.applied.append(
                        Applied(kind=FaultKind.SIGTERM, at=boot_seconds(), pid=worker.pid, worker=worker.name)
                    )
                    await wait_until(lambda left=worker: left not in arena.fleet.living, "it left", _RESTART_WITHIN_S)
                    await wait_until(lambda: balanced(arena, load.workers), "they share again", _RESTART_WITHIN_S)
            restarting = False

        runs = plan(arena.rng, sessions=load.sessions, seconds=load.seconds)
        await arena.alongside(restart_all(), arena.load.submit_at(load.rate, runs, lambda _: restarting))
        return await judge("rolling", options, arena, _measured)


def balanced(arena: Arena, workers: int) -> bool:
    names = {worker.name for worker in arena.fleet.living}
    return len(names) == workers and arena.leases.balanced(names)


def _measured(history: History, figures: Figures) -> list[Measured]:
    moves = released(history)
    admits = first_admits(history)
    restarted = sum(record.attempt > 1 for record in history.records.values())
    return [
        Measured(name="partitions moved", value=len(moves)),
        Measured(name="runs that restarted", value=restarted, at_most=0),
        Measured(name="runs with a handover counted", value=sum(one.handovers > 0 for one in history.records.values())),
        Measured(name="release → acquire, max", value=max(moves, default=0.0), at_most=1.0, unit=" s"),
        Measured(name="releases with a run that waited", value=len(admits)),
        Measured(name="release → first admit, max", value=max(admits, default=0.0), at_most=2.5, unit=" s"),
    ]


def released(history: History) -> list[float]:
    """Seconds from each release to the acquire that followed, as looks show it; 0 if no look saw the time between."""
    free: dict[int, float] = {}
    held: set[int] = set()
    found: list[float] = []
    for seen in history.owners:
        if not seen.worker and seen.partition in held:
            free[seen.partition] = seen.at
        elif seen.worker and seen.partition in held:
            found.append(seen.at - free.pop(seen.partition, seen.at))
        if seen.worker:
            held.add(seen.partition)
    return found


def first_admits(history: History) -> list[float]:
    """Seconds from each release to the first start in that partition of a run that waited when it was released."""
    starts: dict[str, float] = {}
    for line in history.journal:
        if line.what is What.START:
            starts.setdefault(line.run, line.at)
    waits: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in history.submitted:
        if one.run in starts:
            waits[one.partition(history.partitions)].append((one.at, starts[one.run]))
    found: list[float] = []
    for seen in history.owners:
        if not seen.worker:
            submitted = waits[seen.partition]
            before = submitted[: bisect_right(submitted, (seen.at, float("inf")))]
            started = [start for _, start in before if start > seen.at]
            if started:
                found.append(min(started) - seen.at)
    return found
