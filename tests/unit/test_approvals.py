"""Tool calls that need a person, in process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime_core.contracts.context import RunScope
from runtime_core.contracts.host import Approval
from runtime_core.contracts.run import RunBudget, RunResult, StopReason
from runtime_core.errors import InvalidInputError, RunConflict
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from tests.unit.durable_plugins import COUNTS
from tests.unit.kernel_setup import config, counted, names, request

__all__ = ["counted"]  # a fixture is used by its name

PLUGINS = "tests.unit.durable_plugins"


def host(tool: str = "Careful", **changes: Any) -> Runtime:
    return Runtime.from_dict(config(tools=[{"id": "careful", "impl": f"{PLUGINS}.{tool}"}], **changes))


class Watched:
    """A run that executes, with its events; ``asked`` waits until it needs a person."""

    def __init__(self, runtime: Runtime, text: str = "/tool careful big", **fields: Any) -> None:
        self.runtime = runtime
        self.events: list[RuntimeEvent] = []
        self.request = request(text, run_id="r", **fields)
        self._asks = asyncio.Event()

        async def sink(event: RuntimeEvent) -> None:
            self.events.append(event)
            if event.name == "tool.approval_needed":
                self._asks.set()

        self.result: asyncio.Task[RunResult] = asyncio.create_task(runtime.execute(self.request, RunScope(sink=sink)))

    async def asked(self) -> Approval:
        await self._asks.wait()
        await asyncio.sleep(0)
        (approval,) = self.runtime.approvals("r")
        return approval


async def test_a_call_that_is_allowed_is_made() -> None:
    run = Watched(host())
    approval = await run.asked()
    assert (approval.tool_id, approval.params) == ("careful", {"query": "big"})
    assert not COUNTS["careful"]

    run.runtime.approve("r", approval.call_id, "allow")

    result = await run.result
    assert "did big" in result.final_output
    assert COUNTS["careful"] == 1
    (called,) = [event for event in run.events if event.name == "tool.called"]
    assert called.payload["call_id"] == approval.call_id


async def test_a_call_that_is_denied_is_told_to_the_model_and_not_made() -> None:
    run = Watched(host())
    approval = await run.asked()

    run.runtime.approve("r", approval.call_id, "deny", reason="too big")

    result = await run.result
    assert result.stop_reason is StopReason.COMPLETED
    assert not COUNTS["careful"]
    (failed,) = [event for event in run.events if event.name == "tool.failed"]
    assert "too big" in failed.payload["error"]


async def test_a_call_that_needs_nobody_does_not_wait() -> None:
    run = Watched(host(), "/tool careful small")

    assert "did small" in (await run.result).final_output
    assert "tool.approval_needed" not in names(run.events)


async def test_nobody_in_time_means_no() -> None:
    run = Watched(host("Impatient"))

    result = await run.result

    assert result.stop_reason is StopReason.COMPLETED
    (failed,) = [event for event in run.events if event.name == "tool.failed"]
    assert "nobody decided in time" in failed.payload["error"]


async def test_the_first_decision_counts() -> None:
    run = Watched(host())
    approval = await run.asked()
    run.runtime.approve("r", approval.call_id, "allow")

    with pytest.raises(RunConflict, match="decided before: allow"):
        run.runtime.approve("r", approval.call_id, "deny")

    assert "did big" in (await run.result).final_output


async def test_what_does_not_wait_cannot_be_decided() -> None:
    run = Watched(host())
    approval = await run.asked()

    with pytest.raises(InvalidInputError, match="no call 'other'") as unknown:
        run.runtime.approve("r", "other", "allow")
    with pytest.raises(InvalidInputError, match="'yes' is no decision"):
        run.runtime.approve("r", approval.call_id, "yes")

    assert approval.call_id in str(unknown.value)
    run.runtime.approve("r", approval.call_id, "allow")
    await run.result


async def test_a_run_that_resumes_does_not_ask_again() -> None:
    run = Watched(host(pattern={"impl": f"{PLUGINS}.CarefulOnce"}), durable=True)
    run.runtime.approve("r", (await run.asked()).call_id, "allow")

    async with asyncio.timeout(5):
        result = await run.result

    assert result.final_output == "did big"
    assert COUNTS["careful"] == 2
    assert names(run.events).count("tool.approval_needed") == 1


async def test_a_second_run_of_the_same_id_asks_anew() -> None:
    runtime = host()
    for verdict in ("allow", "deny"):
        run = Watched(runtime)
        runtime.approve("r", (await run.asked()).call_id, verdict)
        await run.result
    assert COUNTS["careful"] == 1


async def test_an_expired_call_is_decided() -> None:
    run = Watched(host("Impatient"))
    approval = await run.asked()
    await run.result

    with pytest.raises(RunConflict, match="decided before: deny"):
        run.runtime.approve("r", approval.call_id, "allow")


@pytest.mark.parametrize("hint", ["allow", "deny"])
async def test_the_request_may_bring_its_decisions(hint: str) -> None:
    run = Watched(host(), context_hints={"approvals": {"*": hint}})

    await run.result

    assert COUNTS["careful"] == (hint == "allow")
    assert "tool.approval_needed" not in names(run.events)


async def test_waiting_costs_no_time_of_the_run() -> None:
    pattern = {"type": "react", "config": {"step_timeout_ms": 300}}
    run = Watched(host(pattern=pattern), budget=RunBudget(max_duration_ms=300))
    approval = await run.asked()

    await asyncio.sleep(0.4)
    run.runtime.approve("r", approval.call_id, "allow")

    assert (await run.result).stop_reason is StopReason.COMPLETED


async def test_a_run_that_is_cancelled_waits_no_longer() -> None:
    run = Watched(host())
    await run.asked()

    run.result.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run.result
    assert run.runtime.approvals("r") == []


async def test_the_sessions_next_run_waits() -> None:
    run = Watched(host())
    approval = await run.asked()
    behind = asyncio.create_task(run.runtime.run_detailed(request("next")))
    done, _ = await asyncio.wait([behind], timeout=0.05)
    assert not done

    run.runtime.approve("r", approval.call_id, "allow")

    await run.result
    assert (await behind).stop_reason is StopReason.COMPLETED
