"""When a worker is alive, and when it is ready: decisions about what was seen of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.fleet.conftest import wait_until
from workers.liveness import Liveness
from workers.monitoring.health import RESTART_AFTER, Vitals, alive, ready
from workers.partitions.contact import Contact

_SILENT = "the consumer does not poll its queues"


@pytest.mark.parametrize(
    "vitals",
    [
        Vitals(opened=False),
        Vitals(opened=True, held=8, redis_answers=1000),
        Vitals(opened=True, draining=True),
        Vitals(opened=True, problem=_SILENT, problem_lasts=RESTART_AFTER - 1, redis_answers=1000),
        Vitals(opened=True, problem=_SILENT, problem_lasts=1000, redis_answers=1000, redis_silent=10),
        Vitals(opened=True, problem=_SILENT, problem_lasts=1000, redis_answers=5),
    ],
    ids=["starting", "at work", "draining", "mending itself", "Redis is away", "Redis is just back"],
)
def test_what_a_restart_does_not_cure_leaves_a_worker_alive(vitals: Vitals) -> None:
    assert alive(vitals).missing == ()


def test_a_hung_loop_is_not_alive_even_while_redis_is_away() -> None:
    hung = Vitals(opened=True, loop_hangs=True, problem="the event loop does not turn", redis_silent=10)
    assert alive(hung).missing == ("the event loop does not turn",)


def test_a_part_that_stands_still_while_redis_answers_is_not_alive() -> None:
    stuck = Vitals(opened=True, problem=_SILENT, problem_lasts=60, redis_answers=RESTART_AFTER, held=8)
    assert alive(stuck).missing == (f"for 45 s: {_SILENT}",)


@pytest.mark.parametrize(
    "vitals",
    [Vitals(opened=True, held=8), Vitals(opened=True, held=8, unowned=3), Vitals(opened=True, held=0, unowned=0)],
    ids=["owner", "owner while another's are free", "spare"],
)
def test_who_takes_runs_or_stands_by_is_ready(vitals: Vitals) -> None:
    assert ready(vitals).ok


@pytest.mark.parametrize(
    ("vitals", "missing"),
    [
        (Vitals(opened=False), "it is starting"),
        (Vitals(opened=True, draining=True), "it drains"),
        (Vitals(opened=True, held=8, problem=_SILENT), _SILENT),
        (Vitals(opened=True, held=8, redis_silent=4), "Redis has not answered for 4 s"),
        (Vitals(opened=True, held=8, lapsed=3), "3 of its 8 leases were not renewed in time"),
        (Vitals(opened=True, held=0, unowned=8), "it holds no partition yet, and 8 have no owner"),
    ],
)
def test_who_takes_no_runs_is_not_ready_and_says_why(vitals: Vitals, missing: str) -> None:
    assert len(ready(vitals).missing) == 1
    assert missing in ready(vitals).missing[0]


def test_contact_with_redis_begins_anew_after_a_gap_of_a_lease() -> None:
    contact = Contact(100.0)
    for now in (101.0, 106.9, 107.5):
        contact.answered(now)
    assert (contact.since, contact.last) == (100.0, 107.5)
    contact.answered(113.5)
    assert (contact.since, contact.last) == (113.5, 113.5)


class Consumer:
    """Stands where Celery's consumer does."""

    silent = 0.0

    def silent_for(self) -> float:
        return self.silent

    def restart(self) -> None: ...


async def test_a_problem_lasts_from_its_first_beat_to_its_end() -> None:
    consumer = Consumer()
    liveness = Liveness(consumer, lambda call: call(), on_hung=lambda: None)
    beating = asyncio.create_task(liveness.beat())
    try:
        await asyncio.sleep(0)
        assert liveness.problem_lasts() == 0
        consumer.silent = 3.0
        await wait_until(lambda: liveness.problem_lasts() > 0.6, "the problem lasts for more than a beat")
        consumer.silent = 0.0
        await wait_until(lambda: liveness.problem_lasts() == 0, "it is over")
    finally:
        beating.cancel()
