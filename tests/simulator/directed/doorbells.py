"""Doorbells that are lost, doubled, late or false; the record decides."""

from __future__ import annotations

import asyncio

from runtime_core.store import keys
from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, executing, finishes, fleet, strike, struck
from tests.simulator.history import History


@directed()
async def lost_doorbells_are_rung_again(history: History) -> None:
    await fleet(history)
    history.bells.lost = 1.0
    runs = [await history.submit("1 100", f"s{number}") for number in range(3)]
    await asyncio.sleep(1.5)
    history.bells.lost = 0.0
    await finishes(history, *runs, seconds=8.0)
    await settle(history)


@directed()
async def doubled_doorbells_start_one_attempt(history: History) -> None:
    await fleet(history)
    history.bells.doubled = 1.0
    for number in range(12):
        await history.submit("2 100", f"s{number % 4}")
    await asyncio.sleep(4.0)
    await settle(history)


@directed()
async def doorbell_of_an_unanswered_attempt(history: History) -> None:
    """A run is marked as running, nobody knows: another doorbell of it starts no second execution of that attempt."""
    await fleet(history)
    lost = strike(history, "admit", "lose_reply", times=4)
    run = await history.submit("1 100")
    await struck(history, lost)
    for _ in range(8):
        await history.ring(run or "")
        await asyncio.sleep(0.05)
    await settle(history)


@directed()
async def false_doorbell_finds_another_head(history: History) -> None:
    """A doorbell of a run that is not its session's head yet."""
    history.slots = 8
    (first,) = await fleet(history)
    history.hang(first, "hub", 2.0)
    head = await history.submit("4 500")
    waiting = await history.submit("1 100")
    history.lose_doorbells(0)
    await history.ring(waiting or "")
    await finishes(history, head, waiting)
    await settle(history)


@directed()
async def doorbells_do_not_multiply(history: History) -> None:
    """One slot, and many heads that wait long for it: the sweep counts the doorbells that are there."""
    history.slots = 1
    await fleet(history)
    for number in range(8):
        await history.submit("1 4000", f"s{number}")
    for _ in range(60):
        bells, ready = history.network.execute_many([("LLEN", keys.queue(0)), ("ZCARD", f"{keys.prefix(0)}ready")])
        # Those that the consumer has just popped are counted by nobody for a moment.
        history.oracle.expect(bells <= ready + 2, f"{bells} doorbells wait for {ready} heads")
        await asyncio.sleep(0.5)
    await settle(history)


@directed()
async def takeover_clears_stale_doorbells(history: History) -> None:
    """Killed with a full queue: whoever takes over finds one doorbell for each head, no more."""
    history.slots = 1
    (first,) = await fleet(history)
    for number in range(6):
        await history.submit("1 500", f"s{number}")
    await asyncio.sleep(0.2)
    history.kill(first)
    history.double_doorbells(0)
    history.worker()
    await settle(history)


@directed()
async def run_is_known_before_it_is_admitted(history: History) -> None:
    """A sweep falls between an admit and its answer: what is on its way is not repaired."""
    await fleet(history)
    history.bells.doubled = 1.0
    late = strike(history, "admit", "delay_reply", seconds=2.5)
    run = await history.submit("1 1500")
    await struck(history, late)
    await finishes(history, run, seconds=8.0)
    attempts = history.oracle.runs[run or ""].attempt
    history.oracle.expect(attempts == 1, f"{run} took {attempts} attempts, one should do")
    await settle(history)


@directed()
async def queue_deadline_at_admit(history: History) -> None:
    """The deadline passes while nobody serves; sweeps are late; its doorbell does not start it."""
    run = await history.submit("1 100", deadline_ms=1000)
    strike(history, "sweep", "delay_request", seconds=3.0, times=3)
    await fleet(history)
    await finishes(history, run, seconds=8.0)
    await settle(history)


@directed()
async def queue_deadline_behind_a_long_run(history: History) -> None:
    """It has no doorbell: the sweep ends it in time."""
    await fleet(history)
    head = await history.submit("1 12000")
    waiting = await history.submit("1 100", deadline_ms=1000)
    await executing(history, head)
    await finishes(history, waiting, seconds=3.5)
    await settle(history)
