"""Submits: repeated, in conflict, beyond the limits."""

from __future__ import annotations

from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, finishes, fleet, strike, struck
from tests.simulator.history import History


@directed()
async def repeated_submit_is_the_same_run(history: History) -> None:
    await fleet(history)
    lost = strike(history, "submit", "lose_reply", times=5)
    run = await history.submit("1 500", run="mine")
    await struck(history, lost)
    await history.submit("1 500", run="mine")
    await finishes(history, run)
    await history.submit("1 500", run="mine")
    await settle(history)


@directed()
async def other_request_under_the_same_id_is_refused(history: History) -> None:
    await fleet(history)
    await history.submit("1 500", run="mine")
    other = await history.submit("1 400", run="mine")
    history.oracle.expect(other is None, "another request got a run id that was taken")
    await settle(history)


@directed()
async def full_session_refuses(history: History) -> None:
    await fleet(history)
    history.limits["session_limit"] = 3
    accepted = [await history.submit("1 1000") for _ in range(6)]
    history.oracle.expect(sum(run is not None for run in accepted) == 3, f"limit 3, accepted {accepted}")
    await settle(history)


@directed()
async def full_partition_refuses(history: History) -> None:
    await fleet(history)
    history.limits["partition_limit"] = 4
    accepted = [await history.submit("1 2000", f"s{number}") for number in range(7)]
    history.oracle.expect(sum(run is not None for run in accepted) == 4, f"limit 4, accepted {accepted}")
    await settle(history)
