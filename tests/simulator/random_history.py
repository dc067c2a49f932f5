"""A history drawn from its seed: a fleet, a load, and faults for a while; then all must come to rest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tests.simulator.aftermath import settle
from tests.simulator.agent import DELEGATING
from tests.simulator.history import History
from tests.simulator.network import Weather
from tests.simulator.worker import SimulatedWorker

#: Seconds a history takes until its faults end.
_SHORTEST, _LONGEST = 12.0, 40.0


async def random_history(history: History) -> None:
    chance = history.chance
    history.slots = chance.choice([2, 4, 8])
    history.limits["session_limit"] = chance.choice([3, 6, 20])
    history.settings["handover_grace_s"] = chance.choice([0.5, 3.0])
    history.settings["drain_grace_s"] = chance.choice([0.2, 2.0, 6.0])
    end = history.now + chance.uniform(_SHORTEST, _LONGEST)
    for _ in range(chance.randint(1, 3)):
        history.worker()
    supervisor = asyncio.create_task(history.supervise())
    person = asyncio.create_task(history.person())
    clients = [asyncio.create_task(_client(history, number, end)) for number in range(chance.randint(2, 4))]
    await _faults(history, end)
    await history.heal()
    await asyncio.gather(*clients)
    await settle(history)
    supervisor.cancel()
    person.cancel()


async def _client(history: History, number: int, end: float) -> None:
    """Submits to a few sessions, some of which other clients use, too; cancels; repeats itself."""
    chance = history.chance
    sessions = [f"s{chance.randint(0, 6)}" for _ in range(2)]
    mine: list[str] = []
    while history.now < end:
        await asyncio.sleep(chance.expovariate(1.0))
        dice = chance.random()
        if dice < 0.12 and mine:
            await history.cancel(chance.choice(mine))
        elif dice < 0.17 and mine:
            parent = chance.choice(mine)
            if (child := await history.submit(_work(history), chance.choice(sessions), parent=parent)) is not None:
                mine.append(child)
        else:
            deadline = chance.choice([500, 3000]) if chance.random() < 0.1 else None
            text = _work(history)
            run = await history.submit(text, chance.choice(sessions), deadline_ms=deadline)
            if run is not None:
                mine.append(run)


def _work(history: History) -> str:
    chance = history.chance
    verb = chance.choices(["", "raise", "stubborn", "poison", "keeps"], [0.60, 0.05, 0.035, 0.015, 0.30])[0]
    if verb == "poison":
        return "1 100 poison"
    return f"{chance.choice([1, 2, 4])} {chance.choice([20, 150, 600])} {_kept(chance) if verb == 'keeps' else verb}"


def _kept(chance: random.Random, depth: int = 0) -> str:
    """A verb of runs that go on behind what they have kept, with what their children do."""
    verb = chance.choice(["durable", "ask", "ask-soon", *(DELEGATING if depth < 3 else ())])
    if verb not in DELEGATING:
        return verb
    child = _kept(chance, depth + 1) if chance.random() < 0.5 else ""
    return f"{verb} {chance.choice([1, 3])} {chance.choice([20, 300])} {child}"


async def _faults(history: History, end: float) -> None:
    chance, network = history.chance, history.network
    if chance.random() < 0.7:
        network.weather = Weather(
            request_lost=chance.choice([0.0, 0.01, 0.05]),
            reply_lost=chance.choice([0.0, 0.02, 0.06]),
            delayed=chance.choice([0.0, 0.01, 0.04]),
            delay_s=chance.choice([0.3, 2.5, 7.0]),
            message_lost=chance.choice([0.0, 0.3, 1.0]),
        )
    history.bells.lost = chance.choice([0.0, 0.05, 0.3])
    history.bells.doubled = chance.choice([0.0, 0.1])
    gap = chance.choice([1.5, 4.0, 8.0])
    while history.now < end:
        await asyncio.sleep(chance.expovariate(1 / gap))
        if history.now < end and history.living:
            _strike(history)


def _strike(history: History) -> None:
    chance = history.chance
    worker = chance.choice(history.living)
    faults: list[tuple[int, Callable[[], object]]] = [
        (30, lambda: history.kill(_busy(history) or worker)),
        (14, lambda: history.stop(_busy(history) or worker, chance.choice([0.7, 3.0, 8.0, 14.0]))),
        (14, lambda: history.drain(worker)),
        (8, lambda: history.cut(worker, chance.choice([1.0, 4.0, 9.0]))),
        (6, lambda: history.outage(chance.choice([0.5, 4.0, 10.0]))),
        (5, lambda: history.hang(worker, chance.choice(["loop", "hub", "renewal"]), chance.choice([1.0, 5.0, 12.0]))),
        (10, lambda: history.worker() if len(history.living) < 4 else None),
        (4, lambda: history.step_clock(chance.choice([-3.0, -0.5, 0.5, 0.8, 20.0]))),
        (3, history.forget_scripts),
        (4, lambda: history.lose_doorbells(chance.randrange(history.partitions))),
        (4, lambda: history.double_doorbells(chance.randrange(history.partitions))),
        (3, lambda: history.silence(worker)),
        (3, lambda: history.freeze_all(chance.choice([0.5, 3.0, 9.0]))),
    ]
    weights, strikes = zip(*faults, strict=True)
    chance.choices(strikes, weights)[0]()


def _busy(history: History) -> SimulatedWorker | None:
    """One that executes, half of the time."""
    busy = [one for one in history.living if one.worker is not None and one.worker.table.describe()]
    return history.chance.choice(busy) if busy and history.chance.random() < 0.5 else None
