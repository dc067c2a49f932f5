"""A full session, submitted to by plain Celery clients: nothing is lost or doubled, and nobody else waits for it."""

from __future__ import annotations

import asyncio

from celery import Celery

from runtime_core.contracts.run import StopReason
from runtime_core.errors import RunNotFound
from runtime_core.ids import ingress_run_id
from runtime_core.store.connection import connect
from tests.integration.fleet.conftest import Fleet, request, wait_until
from workers.transport import INGRESS_IN_HAND

#: More than a worker takes in hand.
WAITING = INGRESS_IN_HAND + 5
LIMIT = 3


async def test_submissions_to_a_full_session_let_others_pass_and_all_become_runs(fleet: Fleet) -> None:
    await fleet.start(1, RUNLANE_SESSION_QUEUE_LIMIT=str(LIMIT))
    first = await fleet.client.submit(request("wait 60"))
    for number in range(LIMIT - 1):
        await fleet.client.submit(request(f"echo before {number}"))
    redis = connect(fleet.redis_url)

    def send() -> list[str]:
        with Celery("stranger", broker=fleet.redis_url, set_as_current=False) as app:
            inputs = [("s", f"echo {number}") for number in range(WAITING)] + [("free", "echo free")]
            return [
                app.send_task(
                    "runlane.submit",
                    [{"agent_id": "journal", "session_id": session, "input_text": text}],
                    queue="runs",
                ).id
                for session, text in inputs
            ]

    *waiting, free = [ingress_run_id(sent) for sent in await asyncio.to_thread(send)]

    async def submitted(run_id: str) -> bool:
        try:
            await fleet.client.get(run_id)
        except RunNotFound:
            return False
        return True

    await wait_until(lambda: submitted(free), "the submission behind them is a run", seconds=20)
    assert (await fleet.client.result(free, timeout=10)).final_output == "free"
    assert not any([await submitted(run_id) for run_id in waiting])

    await first.cancel()
    for run_id in waiting:
        await wait_until(lambda run_id=run_id: submitted(run_id), "it has become a run", seconds=60)
        assert (await fleet.client.result(run_id, timeout=20)).stop_reason is StopReason.COMPLETED
    starts = [line["input"] for line in fleet.journal() if line["what"] == "start"]
    assert sorted(starts) == sorted(set(starts)), "none started twice"
    assert len(starts) == 1 + (LIMIT - 1) + WAITING + 1

    async def acknowledged() -> bool:
        return not await redis.exists("unacked", "unacked_index", "runs")

    await wait_until(acknowledged, "every submission is acknowledged")
    await redis.aclose()
