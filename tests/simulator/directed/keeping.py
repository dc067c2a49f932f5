"""Runs that keep something: durable steps, waits for a person, children. What is kept outlives workers."""

from __future__ import annotations

import asyncio

from runtime_core.contracts.host import Verdict
from runtime_core.store.scripts import run_script
from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, finishes, fleet, owner, strike, struck
from tests.simulator.history import History
from tests.simulator.known_run import Run
from tests.simulator.network import Weather


async def asks(history: History, run: str | None) -> str:
    """Wait until the run asks for a person; the id of the call."""
    while not (asked := await history.asked(run or "")):
        await asyncio.sleep(0.05)
    return asked[0].call_id


async def child_of(history: History, run: str | None) -> Run:
    """Wait until an agent acts in the child that the run delegates to."""

    def children() -> list[Run]:
        return [one for one in history.oracle.runs.values() if one.request.parent_run_id == run]

    await history.until(
        lambda: any(child.id in history.oracle.acting for child in children()), "a child executes", 15.0
    )
    return children()[0]


def kill_and_replace(history: History) -> None:
    history.kill(owner(history))
    history.worker()


@directed()
async def durable_run_goes_on_behind_its_steps(history: History) -> None:
    await fleet(history)
    run = await history.submit("6 300 durable")
    known = history.oracle.runs[run or ""]
    await history.until(lambda: len(known.written) == 3, "three steps are written", 15.0)
    kill_and_replace(history)
    await finishes(history, run)
    history.oracle.expect(known.attempt == 2, f"{known.attempt} attempts")
    await settle(history)


@directed()
async def steps_without_an_answer_are_there_once(history: History) -> None:
    await fleet(history)
    lost = strike(history, "step", "lose_reply", times=5)
    run = await history.submit("3 100 durable")
    await struck(history, lost)
    await finishes(history, run)
    await settle(history)


@directed()
async def late_step_changes_nothing(history: History) -> None:
    await _late(history, "step", "3 100 durable")


@directed()
async def late_wait_changes_nothing(history: History) -> None:
    """It arrives when its run has finished by the repeat of it."""
    await fleet(history)
    late = strike(history, "wait", "delay_request", seconds=8.0)
    run = await history.submit("1 100 ask-soon")
    await struck(history, late)
    await finishes(history, run)
    await asyncio.sleep(8.0)
    await settle(history)


@directed()
async def late_child_does_not_begin(history: History) -> None:
    await _late(history, "add_child", "1 100 shared 1 100")


async def _late(history: History, script: str, text: str) -> None:
    """The request arrives when its worker has long lost its lease."""
    (first,) = await fleet(history)
    late = strike(history, script, "delay_request", seconds=14.0, of=first)
    run = await history.submit(text)
    await struck(history, late)
    history.stop(first, 16.0)
    history.worker()
    await finishes(history, run)
    await asyncio.sleep(6.0)
    await settle(history)


@directed()
async def approval_outlives_its_worker(history: History) -> None:
    """Decided while nobody executes the run."""
    await fleet(history)
    run = await history.submit("2 100 ask")
    call = await asks(history, run)
    history.kill(owner(history))
    await history.decide(run or "", call, Verdict.ALLOW)
    history.worker()
    await finishes(history, run)
    await settle(history)


@directed()
async def first_decision_counts(history: History) -> None:
    await fleet(history)
    run = await history.submit("2 100 ask")
    call = await asks(history, run)
    counted = await asyncio.gather(*(history.decide(run or "", call, verdict) for verdict in Verdict))
    history.oracle.expect(counted.count(True) == 1, f"{counted.count(True)} decisions count")
    await finishes(history, run)
    await settle(history)


@directed()
async def decision_reaches_a_run_without_messages(history: History) -> None:
    await fleet(history)
    history.network.weather = Weather(message_lost=1.0)
    run = await history.submit("2 100 ask")
    call = await asks(history, run)
    await history.decide(run or "", call, Verdict.ALLOW)
    await finishes(history, run, seconds=3.0)
    await settle(history)


@directed(partitions=2)
async def end_of_a_child_reaches_its_parent_without_messages(history: History) -> None:
    await fleet(history)
    history.network.weather = Weather(message_lost=1.0)
    run = await history.submit("1 100 isolated 1 500")
    await finishes(history, run, seconds=6.0)
    await settle(history)


@directed()
async def nobody_decides_in_time(history: History) -> None:
    await fleet(history)
    run = await history.submit("2 100 ask-soon")
    await finishes(history, run, seconds=5.0)
    await settle(history)


@directed()
async def who_waits_is_not_blamed_for_deaths(history: History) -> None:
    """Nine workers die beneath a run that waits for a person."""
    await fleet(history)
    run = await history.submit("2 100 ask")
    call = await asks(history, run)
    for _ in range(9):
        history.oracle.expect(await asks(history, run) == call, f"{run} asks again, under another id")
        await history.until(lambda: history.running(run), "it waits again", 20.0)
        await asyncio.sleep(6.0)
        kill_and_replace(history)
        await asyncio.sleep(8.0)
    await history.decide(run or "", call, Verdict.ALLOW)
    await finishes(history, run)
    told = await history.told(run or "")
    history.oracle.expect(set(told) == {"handovers"}, f"{run} counts {told}")
    await settle(history)


@directed()
async def family_on_one_slot(history: History) -> None:
    history.slots = 1
    await fleet(history)
    run = await history.submit("1 100 isolated 1 100 isolated 1 100 forked 1 100")
    await finishes(history, run)
    await settle(history)


@directed(partitions=2)
async def parent_of_a_dead_worker_finds_its_child(history: History) -> None:
    await fleet(history)
    run = await history.submit("1 100 isolated 4 500")
    await child_of(history, run)
    kill_and_replace(history)
    await finishes(history, run)
    await settle(history)


@directed()
async def fork_without_an_answer_is_made_once(history: History) -> None:
    await fleet(history)
    await finishes(history, await history.submit("1 100"))
    lost = strike(history, "edit", "lose_reply")
    run = await history.submit("1 100 forked 1 100")
    await struck(history, lost)
    await finishes(history, run)
    await settle(history)


@directed()
async def fork_waits_for_redis(history: History) -> None:
    """Its requests are lost until the client gives up: no reason for the run to fail."""
    await fleet(history)
    lost = strike(history, "edit", "lose_request", times=5)
    run = await history.submit("1 100 forked 1 100")
    await struck(history, lost)
    await finishes(history, run)
    await settle(history)


@directed()
async def shared_child_goes_on_behind_its_steps(history: History) -> None:
    await fleet(history)
    run = await history.submit("1 100 shared 6 300 durable")
    child = await child_of(history, run)
    await history.until(lambda: len(child.written) == 3, "three steps are written", 15.0)
    kill_and_replace(history)
    await finishes(history, run, child.id)
    history.oracle.expect(child.attempt == 2, f"{child.attempt} attempts of the child")
    await settle(history)


@directed()
async def shared_child_that_has_ended_does_not_begin_again(history: History) -> None:
    """Its worker dies when the child has finished and the parent knows nothing of it."""
    await fleet(history)
    finished = strike(history, "finish", "call", call=lambda _: history.kill(owner(history)))
    run = await history.submit("1 100 shared 2 100")
    await struck(history, finished)
    history.worker()
    await finishes(history, run)
    await settle(history)


@directed()
async def shared_child_ends_with_its_parent(history: History) -> None:
    """The parent is cancelled between two attempts: nobody will go on with its child."""
    await fleet(history)
    run = await history.submit("1 100 shared 100 500")
    child = await child_of(history, run)
    history.kill(owner(history))
    await history.cancel(run or "")
    history.worker()
    await finishes(history, run, child.id)
    await settle(history)


@directed(partitions=2)
async def cancel_reaches_the_children_of_a_shared_child(history: History) -> None:
    """The worker has ended the shared child before the client that cancels comes to it."""
    await fleet(history)
    run = await history.submit("1 100 shared 2 100 isolated 100 500")
    child = await child_of(history, run)
    grandchild = await child_of(history, child.id)
    await run_script(history.redis, "cancel", child.partition, run or "")
    await finishes(history, run, child.id)
    await history.cancel(run or "")
    await finishes(history, grandchild.id, seconds=6.0)
    await settle(history)


@directed()
async def cancelled_shared_child_of_a_dead_worker_starts_no_more(history: History) -> None:
    (first,) = await fleet(history)
    run = await history.submit("2 100 shared 100 500")
    child = await child_of(history, run)
    history.kill(first)
    await history.cancel(child.id)
    history.worker()
    await finishes(history, run, child.id)
    await settle(history)
