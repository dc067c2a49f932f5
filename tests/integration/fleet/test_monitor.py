"""A real fleet as the monitor shows it: well, and with a worker that was stopped."""

from __future__ import annotations

import os
import signal

from producer.diagnosis.finding import Severity
from producer.monitor import Monitor
from runtime_core.contracts.fleet import PartitionState
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until


async def test_a_fleet_is_shown_and_a_worker_that_was_stopped_is_named(fleet: Fleet) -> None:
    first, second = await fleet.start(2)
    await fleet.ready()
    await fleet.client.run(request("echo hi", session="done"))
    running = await fleet.client.submit(request("wait 60", session="busy"))
    behind = await fleet.client.submit(request("echo later", session="busy"))
    await wait_until(lambda: "wait 60" in str(fleet.journal()), "the run executes")

    async with Monitor(fleet.redis_url) as monitor:

        async def told() -> bool:
            """A heartbeat is sent twice a second; the newest may be older than the run, or than the partitions."""
            workers = (await monitor.status()).workers
            held = sum(worker.partitions or 0 for worker in workers)
            return (sum(worker.executing or 0 for worker in workers), held) == (1, PARTITIONS)

        await wait_until(told, "the workers say that they execute a run and hold all partitions")
        status = await monitor.status()
        assert status.count(PartitionState.OWNED) == PARTITIONS
        assert {worker.name.partition("@")[0] for worker in status.workers} == {first.name, second.name}
        assert all(worker.member and worker.pid and worker.release and not worker.problem for worker in status.workers)
        assert (status.pending, status.finished) == (2, 1)
        errors = [finding for finding in await monitor.examine(()) if finding.severity is Severity.ERROR]
        assert {finding.check for finding in errors} == {"config"}, "one agent of the fleet's file cannot be loaded"
        assert all("no_such_module" in finding.what for finding in errors)

        story = await fleet.client.story(behind.run_id)
        assert story.head is not None
        assert (story.ahead, story.head.run_id, story.owner_beats) == (1, running.run_id, True)
        assert [row.run_id for row in (await fleet.client.runs(limit=1)).rows] != []

        os.kill(first.pid, signal.SIGSTOP)
        try:

            async def silent() -> bool:
                return any(worker.silent_ms for worker in (await monitor.status()).workers)

            await wait_until(silent, "the stopped worker is shown as silent")
            found = await monitor.examine(())
            assert any(finding.what.startswith(f"silent: {first.name}") for finding in found)
        finally:
            os.kill(first.pid, signal.SIGCONT)
    await running.cancel()
