"""Who owns a partition, when it may be taken, and what a lost one may still do."""

from __future__ import annotations

import asyncio

from runtime_core.store.timing import LEASE_TTL_MS
from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, executing, finishes, fleet, owner, owns, strike, struck
from tests.simulator.history import History
from tests.simulator.worker import SimulatedWorker

TTL = LEASE_TTL_MS / 1000


@directed(partitions=2)
async def killed_worker(history: History) -> None:
    """Its runs start elsewhere within TTL + 2 s, those that executed and those that waited."""
    await fleet(history, 2)
    victim = owner(history)
    run = await history.submit("40 500", "s0")
    await executing(history, run)
    assert run is not None
    victim = next(one for one in history.living if history.executes(one, run))
    history.kill(victim)
    died = history.now
    await history.until(lambda: len(history.oracle.runs[run].starts) == 2, f"{run} starts again", TTL + 2.0)
    history.say(f"recovered after {history.now - died:.2f} s")
    await settle(history)


@directed()
async def stopped_worker_wakes_as_a_zombie(history: History) -> None:
    """SIGSTOP beyond its lease: when it goes on it acts no more, writes no more, and ends what it ran."""
    (first,) = await fleet(history)
    run = await history.submit("60 300")
    await executing(history, run)
    history.worker()
    await asyncio.sleep(2.5)
    history.stop(first, 14.0)
    await history.until(lambda: first.process.stopped is False, "it goes on", 20.0)
    await history.until(lambda: not history.executes(first, run or ""), "the zombie has ended what it ran", 4.0)
    await settle(history)


@directed()
async def zombie_in_a_long_call_is_stopped(history: History) -> None:
    """The agent of a lost lease is in a call of a minute: it is cancelled, not waited for."""
    (first,) = await fleet(history)
    run = await history.submit("1 60000")
    await executing(history, run)
    history.worker()
    await asyncio.sleep(2.5)
    history.stop(first, 10.0)
    await history.until(lambda: first.process.stopped is False, "it goes on", 20.0)
    await history.until(lambda: not history.executes(first, run or ""), "the zombie has ended what it ran", 4.0)
    await history.cancel(run or "")
    await settle(history)


@directed()
async def margin_covers_a_fast_clock(history: History) -> None:
    """Cut off while the clock of Redis is set forward by less than the margin: it stops trusting its lease in time."""
    (first,) = await fleet(history)
    run = await history.submit("200 50")
    await executing(history, run)
    history.worker()
    await asyncio.sleep(2.2)
    history.cut(first, 20.0)
    await asyncio.sleep(0.3)
    history.step_clock(0.9)
    await history.until(lambda: not owns(history, first), "taken over", 15.0)
    await asyncio.sleep(3.0)
    await settle(history)


@directed()
async def late_renewal_is_dated_from_its_request(history: History) -> None:
    """The answer of a renewal is nearly 2 s late, and the last one: validity counts from when it was asked."""
    (first,) = await fleet(history)
    run = await history.submit("200 50")
    await executing(history, run)
    history.worker()
    await asyncio.sleep(2.2)
    late = strike(history, "renew", "delay_reply", seconds=1.9, of=first)
    await struck(history, late)
    await asyncio.sleep(1.95)
    history.cut(first, 20.0)
    await history.until(lambda: not owns(history, first), "taken over", 15.0)
    await asyncio.sleep(3.0)
    await settle(history)


@directed()
async def late_acquire_finds_the_lease_renewed(history: History) -> None:
    """A takeover is on its way when the owner comes back and renews: it is refused."""
    (first,) = await fleet(history)
    run = await history.submit("60 300")
    await executing(history, run)
    second = history.worker()
    await asyncio.sleep(2.5)
    late = strike(history, "acquire", "delay_request", seconds=2.5, of=second)
    first.process.stop()
    await struck(history, late)
    await asyncio.sleep(0.3)
    first.process.resume()
    await asyncio.sleep(4.0)
    history.oracle.expect(owns(history, first), "a lease that was renewed was taken")
    history.harmed.add(first.name)
    await settle(history)


@directed()
async def late_admit_finds_the_lease_expired(history: History) -> None:
    """The renewal stands still; an admit that arrives after the lease expired starts nothing."""
    (first,) = await fleet(history)
    await asyncio.sleep(1.0)
    renewed = strike(history, "renew", "", of=first)
    await struck(history, renewed)
    await asyncio.sleep(0.1)
    history.hang(first, "renewal", 9.0)
    await asyncio.sleep(4.0)
    late = strike(history, "admit", "delay_request", seconds=2.6)
    await history.submit("1 100")
    await struck(history, late)
    await asyncio.sleep(3.0)
    await settle(history)


@directed(partitions=2)
async def outage_is_no_death(history: History) -> None:
    """Redis is away for 10 s and one worker comes back later than the other: nothing is taken, no crash is counted."""
    first, second = await fleet(history, 2)
    runs = [await history.submit("30 500", f"s{number}") for number in range(4)]
    await asyncio.sleep(1.0)
    history.outage(10.0)
    slow = owner(history, 0)
    slow.process.stop()
    await asyncio.sleep(12.5)
    slow.process.resume()
    await asyncio.sleep(3.0)
    for run in runs:
        attempt = history.oracle.runs[run or ""].attempt
        history.oracle.expect(attempt == 1, f"the outage cost {run} an attempt: {attempt}")
    assert {first, second} == set(history.living)
    await settle(history)


@directed(partitions=4)
async def whole_fleet_rides_out_an_outage(history: History) -> None:
    """30 s without Redis under load: everything goes on where it was."""
    await fleet(history, 3)
    runs = [await history.submit("20 400", f"s{number}") for number in range(8)]
    await asyncio.sleep(1.0)
    history.outage(30.0)
    await asyncio.sleep(31.0)
    await finishes(history, *runs, seconds=30.0)
    for run in runs:
        attempt = history.oracle.runs[run or ""].attempt
        history.oracle.expect(attempt == 1, f"the outage cost {run} an attempt: {attempt}")
    await settle(history)


@directed()
async def clock_back_repeats_no_fence(history: History) -> None:
    """The clock of Redis is set back by 30 s: fences grow all the same."""
    (first,) = await fleet(history)
    second = history.worker()
    await asyncio.sleep(3.0)
    history.step_clock(-30.0)
    history.drain(first, 1.0)
    await history.until(lambda: owns(history, second), "taken", 60.0)
    await settle(history)


@directed()
async def acquire_without_an_answer_is_repeated(history: History) -> None:
    """Every answer of an acquire is lost until the client gives up: the next try repeats it, and has the partition."""
    lost = strike(history, "acquire", "lose_reply", times=4)
    first = history.worker()
    await struck(history, lost)
    await history.until(
        lambda: first.worker is not None and bool(first.worker.keeper.held), "it knows that it owns", 3.0
    )
    await settle(history)


@directed()
async def acquire_answered_at_the_second_try(history: History) -> None:
    """One lost answer: the client's own repeat gets the same lease, at once."""
    lost = strike(history, "acquire", "lose_reply")
    first = history.worker()
    await struck(history, lost)
    await history.until(
        lambda: first.worker is not None and bool(first.worker.keeper.held), "it knows that it owns", 1.0
    )
    await settle(history)


@directed()
async def lease_kept_for_its_heir(history: History) -> None:
    """A partition was released for a member; another one's acquire comes first, and is refused."""
    first, second = await fleet_of_one_and_a_spare(history)
    third = history.worker()
    await asyncio.sleep(3.0)
    assert first.worker is not None
    keeper = first.worker.keeper
    await first.process.start(keeper.release(keeper.held[0], heir=second.name))
    stranger = await history.leases.acquire(0, f"{third.name}#out-of-turn")
    history.oracle.expect(stranger is None, "a partition that was kept for another member was taken")
    await settle(history)


async def fleet_of_one_and_a_spare(history: History) -> tuple[SimulatedWorker, SimulatedWorker]:
    (first,) = await fleet(history)
    second = history.worker()
    await asyncio.sleep(3.0)
    return first, second


@directed(partitions=2)
async def silent_consumer_loses_its_partitions(history: History) -> None:
    """A consumer that polls no more, and is silent again after each restart: others take over, as an interruption."""
    first, second = await fleet(history, 2)
    mute = owner(history)
    session = history.session_in(0)
    history.mute.add(mute.name)
    history.silence(mute)
    await asyncio.sleep(1.2)
    run = await history.submit("1 100", session)
    await finishes(history, run, seconds=18.0)
    history.oracle.expect(not owns(history, mute), "a worker that does not consume kept its partition")
    assert {first, second} == set(history.living)
    history.mute.clear()
    await settle(history)


@directed()
async def hung_loop_exits(history: History) -> None:
    """The event loop stands still for a minute: the process ends itself once its leases have expired."""
    (first,) = await fleet(history)
    await history.submit("40 200")
    history.worker()
    await asyncio.sleep(2.5)
    history.hang(first, "loop", 60.0)
    await history.until(lambda: not first.process.alive, "the process has ended itself", 14.0)
    await settle(history)


@directed()
async def living_worker_without_leases_is_no_crash(history: History) -> None:
    """The hub hangs, so that leases lapse, while the loop beats on: a takeover is an interruption."""
    (first,) = await fleet(history)
    run = await history.submit("80 300")
    await executing(history, run)
    history.worker()
    await asyncio.sleep(2.5)
    history.hang(first, "hub", 14.0)
    await history.until(lambda: not owns(history, first), "taken over", 16.0)
    told = await history.told(run or "")
    history.oracle.expect(told == ["interruptions"], f"{run} counts {told}")
    await settle(history)
