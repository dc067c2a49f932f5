"""A process of which a part does not work gives up its partitions, is mended, or exits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import StopReason
from runtime_core.store.timing import LEASE_TTL_MS, RENEW_INTERVAL
from tests.integration.fleet.conftest import Fleet, request, wait_until
from workers.liveness import Liveness


async def test_a_process_whose_loop_hangs_exits_and_its_runs_start_elsewhere(fleet: Fleet) -> None:
    workers = await fleet.start(2)
    await fleet.ready()
    handle = await fleet.client.submit(request("block 60"))

    result = await handle.result(timeout=40)

    assert (result.stop_reason, result.final_output) == (StopReason.COMPLETED, "attempt 2")
    (blocked,) = (worker for worker in workers if worker.name != result.metadata["worker"].partition("@")[0])
    await wait_until(lambda: blocked.exit_code is not None, "the blocked process has ended", seconds=20)
    assert blocked.exit_code == 70
    assert f"one of these runs blocks the event loop: {handle.run_id}" in blocked.log.read_text()
    assert "in _block" in blocked.log.read_text(), "the log shows the code that blocked the loop"


async def test_a_consumer_that_fell_silent_is_restarted(fleet: Fleet) -> None:
    (worker,) = await fleet.start(1)
    await fleet.ready()
    assert await fleet.client.run(request("deafen")) == "deaf"
    unheard = await fleet.client.submit(request("echo heard"))

    assert (await unheard.result(timeout=20)).final_output == "heard"

    assert "is restarted" in worker.log.read_text()
    assert (await unheard.get()).interruptions == 0


class Consumer:
    """Stands where Celery's consumer does."""

    silent = 0.0
    looks = 0
    restarts = 0

    def silent_for(self) -> float:
        self.looks += 1
        return self.silent

    def restart(self) -> None:
        self.restarts += 1


def call_now(function: Callable[[], None]) -> None:
    function()


def test_a_silent_consumer_is_a_problem_except_while_the_worker_drains() -> None:
    consumer = Consumer()
    liveness = Liveness(consumer, call_now, on_hung=lambda: None)
    assert liveness.works()
    consumer.silent = 2.6
    assert liveness.problem() == "the consumer does not poll its queues"
    liveness.draining = True
    assert liveness.works()


@pytest.mark.parametrize("turns", [True, False])
def test_only_ticks_without_a_turn_of_the_loop_count_as_hung(turns: bool) -> None:
    hung: list[str] = []
    liveness = Liveness(Consumer(), call_now, on_hung=lambda: hung.append("hung"))
    enough = round(LEASE_TTL_MS / 1000 / RENEW_INTERVAL) * 3

    for _ in range(enough):
        if turns:
            liveness._loop_beat = boot_seconds()
        liveness.watch_loop()

    assert bool(hung) is not turns


async def test_a_consumer_that_stays_silent_is_not_restarted_at_every_beat() -> None:
    consumer = Consumer()
    consumer.silent = 60.0
    beating = asyncio.create_task(Liveness(consumer, call_now, on_hung=lambda: None).beat())
    await wait_until(lambda: consumer.looks >= 3, "it beat three times")
    beating.cancel()
    assert consumer.restarts == 1


async def test_calls_do_not_pile_up_on_a_hub_that_stands_still() -> None:
    consumer, calls = Consumer(), list[Callable[[], None]]()
    beating = asyncio.create_task(Liveness(consumer, calls.append, on_hung=lambda: None).beat())
    await wait_until(lambda: consumer.looks >= 3, "it beat three times")
    assert len(calls) == 1
    calls.pop()()  # the hub turns again
    await wait_until(lambda: len(calls) == 1, "it is asked again")
    beating.cancel()
