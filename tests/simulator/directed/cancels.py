"""Cancels: of queued and running runs, of families, through deaths; and code that does not end when it is told to."""

from __future__ import annotations

import asyncio

from runtime_core.store.scripts import run_script
from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, executing, finishes, fleet, owner, strike
from tests.simulator.history import History
from tests.simulator.network import Weather


@directed()
async def cancel_reaches_a_quiet_run(history: History) -> None:
    """No message arrives, the run writes nothing for a minute: the renewal carries the cancel."""
    await fleet(history)
    history.network.weather = Weather(message_lost=1.0)
    run = await history.submit("1 60000")
    await executing(history, run)
    await asyncio.sleep(0.5)
    await history.cancel(run or "")
    await finishes(history, run, seconds=2.0)
    await settle(history)


@directed()
async def cancel_is_quick_with_messages(history: History) -> None:
    await fleet(history)
    run = await history.submit("1 60000")
    await executing(history, run)
    await asyncio.sleep(0.5)
    await history.cancel(run or "")
    await finishes(history, run, seconds=0.2)
    await settle(history)


@directed()
async def cancelled_run_of_a_dead_worker_starts_no_more(history: History) -> None:
    (first,) = await fleet(history)
    run = await history.submit("1 60000")
    await executing(history, run)
    history.kill(first)
    await history.cancel(run or "")
    history.worker()
    await finishes(history, run, seconds=20.0)
    history.oracle.expect(history.oracle.runs[run or ""].status == "cancelled", f"{run} was cancelled")
    await settle(history)


@directed()
async def queued_run_is_cancelled_for_good(history: History) -> None:
    """Cancelled while it waits behind another; its turn comes and passes."""
    await fleet(history)
    head = await history.submit("1 1500")
    waiting = await history.submit("1 100")
    after = await history.submit("1 100")
    await executing(history, head)
    await history.cancel(waiting or "")
    await finishes(history, head, waiting, after, seconds=6.0)
    await settle(history)


@directed(partitions=2)
async def half_a_cancel_is_completed(history: History) -> None:
    """The client dies after it cancelled the parent, before its children: the owner of the partition goes on."""
    await fleet(history)
    parent = await history.submit("1 60000", "s0")
    children = [await history.submit("1 60000", f"s{number}", parent=parent) for number in (1, 2, 3)]
    await executing(history, parent)
    partition = history.oracle.runs[parent or ""].partition
    await run_script(history.redis, "cancel", partition, parent or "")
    await finishes(history, parent, *children, seconds=6.0)
    await settle(history)


@directed(partitions=2)
async def cancelled_parent_takes_no_children(history: History) -> None:
    await fleet(history)
    running = await history.submit("1 60000", "s0")
    queued = await history.submit("1 100", "s0")
    await executing(history, running)
    grandchild_of = await history.submit("1 60000", "s2", parent=running)
    await history.submit("1 60000", "s3", parent=grandchild_of)
    strike(history, "finish", "delay_request", seconds=1.0)
    for parent in (queued, running):
        await history.cancel(parent or "")
        child = await history.submit("1 100", "s1", parent=parent)
        history.oracle.expect(child is None, f"{child} joined its cancelled parent {parent}")
    await settle(history)


@directed()
async def stubborn_code_holds_its_session(history: History) -> None:
    """Code that swallows its cancellation: the run ends for its client, the session waits for the code."""
    await fleet(history)
    stubborn = await history.submit("1 8000 stubborn")
    waiting = await history.submit("1 100")
    await executing(history, stubborn)
    await asyncio.sleep(0.3)
    await history.cancel(stubborn or "")
    await finishes(history, stubborn, seconds=4.0)
    await history.ring(waiting or "")
    await finishes(history, waiting, seconds=10.0)
    await settle(history)


@directed()
async def killed_with_stubborn_code(history: History) -> None:
    """The run has ended, its code is alive when the worker dies: the record stays as it is, the session goes on."""
    await fleet(history)
    stubborn = await history.submit("1 30000 stubborn")
    waiting = await history.submit("1 100")
    await executing(history, stubborn)
    await asyncio.sleep(0.3)
    await history.cancel(stubborn or "")
    await finishes(history, stubborn, seconds=4.0)
    history.kill(owner(history))
    history.worker()
    await finishes(history, waiting, seconds=20.0)
    await settle(history)
