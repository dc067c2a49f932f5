"""A config reload of a living fleet: who gets which version, and what an operator is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from producer.fleet import Fleet as Operator
from runtime_core.contracts.config_version import ConfigText
from runtime_core.contracts.fleet_event import FleetEvent
from runtime_core.contracts.run import RunResult
from runtime_core.errors import AgentNotFoundError, ConfigError, InvalidInputError
from runtime_core.ids import session_key
from runtime_core.store.configs import ConfigStore
from runtime_core.store.sessions import SessionStore
from tests.integration.fleet.conftest import AGENTS, PARTITIONS, Fleet, request, wait_until

_ASSISTANT = AGENTS[1]


def config(tag: str | None, *more: dict[str, Any], **sections: Any) -> dict[str, Any]:
    journal = AGENTS[0] | {"pattern": AGENTS[0]["pattern"] | {"config": {"tag": tag}}}
    return {"agents": [journal, *more], **sections}


@pytest.fixture
async def operator(fleet: Fleet) -> AsyncIterator[Operator]:
    async with Operator(fleet.redis_url) as operator:
        yield operator


async def outputs(results: list[RunResult]) -> Counter[Any]:
    return Counter(result.final_output for result in results)


async def ask(fleet: Fleet, *sessions: str, text: str = "tag") -> Counter[Any]:
    handles = [await fleet.client.submit(request(text, session=session)) for session in sessions]
    return await outputs([await handle.result(timeout=30) for handle in handles])


async def versions(operator: Operator) -> set[int | None]:
    """The config versions that the workers' heartbeats say."""
    return {worker.config_version for worker in (await operator.status()).workers if not worker.silent_ms}


async def has_version(operator: Operator, version: int) -> bool:
    """Whether all workers have it."""
    return await versions(operator) == {version}


@pytest.mark.slow
async def test_a_fleet_that_works_goes_over_to_a_new_config_without_failing_a_run(
    fleet: Fleet, operator: Operator
) -> None:
    """Also with a worker that is stopped, and with a config that cannot be loaded."""
    workers = await fleet.start(4)
    await fleet.ready()
    await operator.reload(config("old"))
    old = [f"old {number}" for number in range(100)]
    first = [await fleet.client.submit(request("tag 1.5", session=session)) for session in old]
    second = [await fleet.client.submit(request("tag 0.1", session=session)) for session in old]
    await wait_until(lambda: len({line["session"] for line in fleet.journal()}) == 100, "each session has its version")

    report = await operator.reload(config("new"))

    assert report.ok, report
    assert (len(report.fleet.answers), report.changed_agents, report.created) == (4, ("journal",), True)
    assert await versions(operator) <= {1, 2, 3}  # a heartbeat is a second old
    assert await ask(fleet, *(f"new {number}" for number in range(20))) == {"new": 20}
    results = [await handle.result(timeout=30) for handle in (*first, *second)]
    assert await outputs(results) == {"old": 200}
    assert await ask(fleet, *old[:20]) == {"old": 20}

    os.kill(workers[0].pid, signal.SIGSTOP)
    stopped = next(name for name in await operator.living() if name.startswith("w0@"))
    report = await operator.reload(config("third"))
    assert (report.version, report.fleet.missing) == (4, [stopped])
    assert "heartbeat has stopped" in report.fleet.answers[stopped].text
    assert len(report.fleet.answers) == 4
    os.kill(workers[0].pid, signal.SIGCONT)
    await wait_until(lambda: has_version(operator, 4), "the worker that was stopped has the version, too")

    with pytest.raises(ConfigError, match=r"nothing was changed.*no module 'no'") as refused:
        await operator.reload(config("fourth", _ASSISTANT | {"memory": {"impl": "no.such.Memory"}}))
    assert "worker w" in refused.value.message
    assert await operator.config_version() == 4
    assert await ask(fleet, *(f"newer {number}" for number in range(20))) == {"third": 20}


async def test_who_gets_the_new_version(fleet: Fleet, operator: Operator) -> None:
    """One worker, so that all of it can be asked for in turn."""
    await fleet.start(1)
    await fleet.ready()
    events: list[FleetEvent] = []
    listening = asyncio.create_task(_listen(operator, events))
    await operator.reload(config("one", _ASSISTANT))
    await wait_until(lambda: len(events) > 0, "the operator hears the fleet's events")
    assert (events[0].event, events[0].config_version) == ("config.reloaded", 2)
    assert events[0].payload == {"old_version": 1, "new_version": 2, "changed_agents": ["broken", "journal"]}
    assert events[0].worker.startswith("w0@")

    assert await ask(fleet, "closed", "reloaded", "kept") == {"one": 3}
    assert await fleet.client.run(request("/tool calc 6*7", session="kept", agent="assistant")) is not None
    assert await operator.get_session_count() == 3
    await operator.reload(config("two", _ASSISTANT))
    assert await ask(fleet, "closed", "reloaded", "kept") == {"one": 3}

    closed = await operator.close_session("closed")
    assert [answer.values for answer in closed.answers.values()] == [{"held": True}]
    assert await ask(fleet, "closed") == {"two": 1}
    assert await ask(fleet, "kept") == {"one": 1}
    assert await ask(fleet, "kept", text="served_here") == {4: 1}, "its plugins stayed"

    reloaded = await operator.reload_agent("journal")
    assert [answer.values for answer in reloaded.answers.values()] == [{"sessions": 3}]
    assert await ask(fleet, "reloaded", "kept") == {"two": 2}
    assert events[-1].event == "agent.reloaded"
    with pytest.raises(AgentNotFoundError, match="journall"):
        await operator.reload_agent("journall")
    assert (await operator.release_session("kept")).ok

    info = await operator.get_agent_info("journal")
    assert info is not None
    assert info["loaded_plugins"]["pattern"] == "Journal"
    assert await operator.get_agent_info("nobody") is None
    assert await operator.list_agents() == [
        {"id": "journal", "name": "Journal"},
        {"id": "assistant", "name": "Assistant"},
    ]

    gone = await operator.reload(config("two"))
    assert gone.changed_agents == ("assistant",)
    result = await (await fleet.client.submit(request("hi", session="kept", agent="assistant"))).result(timeout=30)
    assert result.error_details is not None
    assert result.error_details.code == "user.agent_not_found"

    with pytest.raises(ConfigError, match="the session section cannot change while the process runs"):
        await operator.reload(config("two", session={"type": "sqlite"}))
    with pytest.raises(ConfigError, match="'NO_SUCH_VARIABLE' is not set"):
        await operator.reload(config("${NO_SUCH_VARIABLE}"))
    same = await operator.reload(config("two"))
    assert (same.created, same.version, same.changed_agents, same.ok) == (False, 4, (), True)
    back = await operator.rollback(2)
    assert (back.version, back.changed_agents) == (5, ("assistant", "journal"))
    assert [(one.version, one.current, one.source) for one in await operator.configs()][:2] == [
        (5, True, "rollback to 2"),
        (4, False, "a mapping"),
    ]
    with pytest.raises(ConfigError, match="1 workers live"):
        await operator.reload(config("offline"), offline=True)
    listening.cancel()

    told = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.app", "inspect", "runlane_status"],
        env=os.environ | {"RUNLANE_REDIS_URL": fleet.redis_url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"config_version": 5' in told.stdout

    with pytest.raises(InvalidInputError, match="no live worker is called 'w7'"):
        await operator.drain("w7")


async def test_what_nobody_told_the_worker(fleet: Fleet, operator: Operator, redis: Redis) -> None:
    """Broadcasts that were lost, sessions that another worker had, plugins that take long to import."""
    configs, sessions = ConfigStore(redis), SessionStore(redis, PARTITIONS)
    (worker,) = await fleet.start(1)
    await fleet.ready()
    await operator.reload(config("two"))
    assert await ask(fleet, "pinned", "unpinned", "reloaded") == {"two": 3}

    await configs.activate(
        await configs.propose(ConfigText(text=json.dumps(config("three")))), expected=2, author="me", source="by hand"
    )
    await wait_until(lambda: has_version(operator, 3), "the worker has the version of which nobody told it")
    assert await ask(fleet, "new") == {"three": 1}
    assert await ask(fleet, "pinned") == {"two": 1}
    await sessions.unpin(session_key("default", "unpinned"))
    assert await ask(fleet, "unpinned") == {"three": 1}, "although the worker still holds plugins of the version before"
    await configs.reload_agent("journal")

    async def dropped() -> bool:
        return await operator.get_session_count() == 0

    await wait_until(dropped, "the worker has dropped the plugins of an agent whose reload nobody told it")
    assert await ask(fleet, "reloaded") == {"three": 1}

    await operator.reload(config("four"))
    slow = {"impl": "tests.integration.fleet.slow_import.SlowJournal", "config": {"tag": "five"}}
    loading = asyncio.create_task(operator.reload({"agents": [AGENTS[0] | {"pattern": slow}]}))
    async with Operator(fleet.redis_url) as other:
        (answer,) = (await other.workers()).answers.values()
    assert answer.values["config_version"] == 4
    assert not any(line["what"] == "imported" for line in fleet.journal()), "a worker answers while it imports"
    assert (await loading).ok
    assert await ask(fleet, "newest") == {"five": 1}

    await fleet.start(1)
    await fleet.ready()
    drained = await operator.drain("w0")
    assert drained.ok
    await operator.gone(drained.answers.keys())
    await wait_until(lambda: worker.exit_code == 0, "the drained worker has ended")
    assert await ask(fleet, "reloaded", "newest") == {"three": 1, "five": 1}, "each keeps its version on another worker"

    await operator.drain("w1")
    await wait_until(lambda: fleet.workers[1].exit_code == 0, "the other worker has ended, too")
    with pytest.raises(ConfigError, match="no worker is there to try it out"):
        await operator.reload(config("late"))
    assert (await operator.reload(config("late"), offline=True)).version == 6


async def _listen(operator: Operator, events: list[FleetEvent]) -> None:
    async with aclosing(operator.events()) as following:
        async for event in following:
            events.append(event)  # noqa: PERF401  # as it comes, for there is no end
