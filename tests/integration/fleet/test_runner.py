"""One attempt on a real store, without Celery around it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from redis.asyncio import Redis

from runtime_core.clock import boot_seconds
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.session.redis import RedisSession
from tests.integration.fleet.conftest import AGENTS
from tests.integration.fleet.plugins import JOURNAL, read_journal
from tests.integration.store.conftest import Store
from workers.execution.attempts import Attempt, AttemptTable
from workers.execution.host import Services
from workers.execution.runner import Runner
from workers.partitions.ownership import Ownership


def _services(store: Store) -> Services:
    return Services(
        attempts=store.attempts,
        runs=store.runs,
        approvals=store.approvals,
        sessions=RedisSession(),
        without_slot=nullcontext,
    )


@pytest.mark.parametrize("lost", [False, True])
async def test_no_code_of_an_agent_begins_after_its_lease_was_lost(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The process may be stopped between the answer of its admit and the first line of the agent."""
    journal = tmp_path / "journal"
    monkeypatch.setenv(JOURNAL, str(journal))
    store = Store(redis)
    run = await store.submit("r1", agent_id="journal", input_text="echo hello")
    lease = await store.own()
    attempt = Attempt(run, Ownership(lease, boot_seconds()))
    attempt.answer = await store.admitted(lease, run)
    table = AttemptTable()
    table.enter(attempt)
    runtime = Runtime.from_dict({"agents": AGENTS[:1]})
    runner = Runner(services=_services(store), runtime=runtime, table=table, worker="w1")
    attempt.ownership.lost = lost

    result = await runner.execute(attempt)

    assert [line["what"] for line in read_journal(journal)] == ([] if lost else ["start", "end"])
    assert (result is None) is lost
    assert run not in table
    await runtime.close()
