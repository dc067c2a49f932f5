"""What a worker logs when it is asked to log in lines of JSON."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.fleet.conftest import Fleet, request


def lines(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.logs().splitlines() if line.startswith("{")]


async def test_a_worker_logs_json_that_names_run_and_partition(fleet: Fleet) -> None:
    (worker,) = await fleet.start(1, RUNLANE_LOG_AUTOCONFIGURE="1", RUNLANE_LOG_STREAM="stdout")
    handle = await fleet.client.submit(request("log api_key", session="s"))
    result = await handle.result(timeout=20)

    (line,) = [line for line in lines(fleet) if line["logger"] == "tests.integration.fleet.plugins"]
    assert (line["run_id"], line["session_id"], line["attempt"]) == (handle.run_id, "s", 1)
    assert line["partition"] == result.metadata["partition"]
    assert line["api_key"] == "***"
    assert any(line["logger"].startswith("celery") for line in lines(fleet)), "Celery's own lines are JSON, too"
    assert "[INFO/MainProcess]" not in worker.log.read_text()
