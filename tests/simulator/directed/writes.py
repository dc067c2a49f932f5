"""What an attempt writes: once, whatever is lost or late on its way."""

from __future__ import annotations

import asyncio

from tests.simulator.aftermath import settle
from tests.simulator.directed.scenes import directed, executing, finishes, fleet, owner, strike, struck
from tests.simulator.history import History


@directed()
async def late_stage_changes_nothing(history: History) -> None:
    """Session writes that arrive when their run has finished by the repeat of them."""
    await _finished_despite(history, "stage", "delay_request", seconds=7.0, within=10.0)
    await asyncio.sleep(4.0)
    await settle(history)


@directed()
async def staged_writes_of_a_dead_attempt_are_dropped(history: History) -> None:
    """Killed between its session writes and its finish: the next attempt's writes are the only ones."""
    await fleet(history)
    strike(history, "stage", "call", call=lambda _: history.kill(owner(history)))
    run = await history.submit("1 100")
    history.worker()
    await finishes(history, run, seconds=20.0)
    await settle(history)


@directed()
async def frames_without_an_answer_are_sent_again(history: History) -> None:
    """Appends are lost until the client gives up: the batch keeps its numbers and is sent again."""
    run = await _finished_despite(history, "append", "lose_request", times=5, text="4 300")
    _once(history, run)
    await settle(history)


@directed()
async def appended_frames_without_an_answer_are_there_once(history: History) -> None:
    run = await _finished_despite(history, "append", "lose_reply", times=5, text="4 300")
    _once(history, run)
    await settle(history)


@directed()
async def staged_without_an_answer_is_there_once(history: History) -> None:
    await _finished_despite(history, "stage", "lose_reply", times=5)
    await settle(history)


@directed()
async def frames_during_a_slow_append(history: History) -> None:
    """The agent goes on while an append is under way: the frames of meanwhile follow in the next one."""
    await _finished_despite(history, "append", "delay_reply", seconds=1.5, text="8 100")
    await settle(history)


@directed()
async def finish_without_an_answer_is_sent_again(history: History) -> None:
    """The requests are lost until the client gives up; then they are answered late. One attempt is enough."""
    run = await _finished_despite(history, "finish", "lose_request", times=5)
    _once(history, run)
    await settle(history)


@directed()
async def finished_without_an_answer_is_finished(history: History) -> None:
    await _finished_despite(history, "finish", "lose_reply", times=5)
    await settle(history)


@directed()
async def attempt_without_an_admission_is_repaired(history: History) -> None:
    """Every answer of an admit is lost: the run is marked as running and executes nowhere, until the sweep sees it."""
    run = await _finished_despite(history, "admit", "lose_reply", times=4, within=8.0)
    told = await history.told(run or "")
    history.oracle.expect(told == ["interruptions"], f"{run} counts {told}")
    await settle(history)


@directed()
async def admission_answered_at_the_second_try(history: History) -> None:
    run = await _finished_despite(history, "admit", "lose_reply", within=3.0)
    _once(history, run)
    await settle(history)


@directed()
async def executing_runs_are_left_alone_by_the_sweep(history: History) -> None:
    """Many sweeps while runs execute: nothing is repaired."""
    await fleet(history)
    runs = [await history.submit("10 500", f"s{number}") for number in range(3)]
    for run in runs:
        await executing(history, run)
    await finishes(history, *runs)
    for run in runs:
        _once(history, run)
    await settle(history)


async def _finished_despite(
    history: History,
    script: str,
    act: str,
    *,
    text: str = "1 100",
    times: int = 1,
    seconds: float = 0.0,
    within: float = 20.0,
) -> str | None:
    """A run that finishes although something happened to its calls of the script."""
    await fleet(history)
    directive = strike(history, script, act, times=times, seconds=seconds)
    run = await history.submit(text)
    await struck(history, directive)
    await finishes(history, run, seconds=within)
    return run


def _once(history: History, run: str | None) -> None:
    attempts = history.oracle.runs[run or ""].attempt
    history.oracle.expect(attempts == 1, f"{run} took {attempts} attempts, one should do")
