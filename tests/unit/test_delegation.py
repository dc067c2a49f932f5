"""Agents that hand work to other agents, in process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime_core.contracts.run import RunBudget, StopReason
from runtime_core.kernel.runtime import Runtime
from tests.unit.durable_plugins import COUNTS
from tests.unit.kernel_setup import counted, names, recorded, request

__all__ = ["counted"]  # a fixture is used by its name

PLUGINS = "tests.unit.durable_plugins"


def host(
    *,
    how: dict[str, Any] | None = None,
    child: str = "Child",
    session: dict[str, Any] | None = None,
    **multi_agent: Any,
) -> Runtime:
    def agent(name: str, pattern: str, **options: Any) -> dict[str, Any]:
        return {
            "id": name,
            "name": name,
            "memory": {"type": "window_buffer"},
            "pattern": {"impl": f"{PLUGINS}.{pattern}", "config": options},
            "llm": {"provider": "mock"},
        }

    agents = [
        agent("a", "Delegating", **{"to": "child", **(how or {})}),
        agent("child", child),
        agent("deep", "Deeper"),
        agent("resuming", "Resuming"),
        agent("forgetting", "Forgetting"),
        agent("lingering", "Lingering"),
    ]
    sections = {"session": session} if session else {}
    return Runtime.from_dict({"agents": agents, "multi_agent": {"enabled": True, **multi_agent}, **sections})


async def test_a_child_in_a_session_of_its_own_sees_nothing_of_its_parents() -> None:
    runtime = host()
    await runtime.session_manager.set_state("s", {"old": 1})

    result, _ = await recorded(runtime, request("do it"))

    assert result.final_output["output"] == {"state": {}, "transcript": 0}
    assert "child was here" not in await runtime.session_manager.get_state("s")


async def test_a_child_in_its_parents_session_shares_it() -> None:
    runtime = host(how={"session_isolation": "shared"})
    await runtime.session_manager.set_state("s", {"old": 1})

    result, _ = await recorded(runtime, request("do it"))

    assert result.final_output["output"]["state"]["old"] == 1
    state = await runtime.session_manager.get_state("s")
    assert (state["old"], state["child was here"], state["seen by parent"]) == (1, "do it", "do it")


async def test_a_shared_child_writes_what_it_changed_and_not_what_its_parent_has_not_written(tmp_path: Path) -> None:
    runtime = host(session={"type": "sqlite", "config": {"db_path": str(tmp_path / "sessions")}})
    await runtime.session_manager.set_state("s", {"old": 1, "short-lived": 1})
    run = asyncio.create_task(runtime.execute(request("do it", agent="lingering")))
    async with asyncio.timeout(5):
        while not COUNTS["lingers"]:
            await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert await runtime.session_manager.get_state("s") == {"old": 1, "child was here": "do it"}
    (_, answer) = await runtime.session_manager.load_messages("s")
    assert answer["content"]["state"] == {"old": 2, "short-lived": 1, "of the parent": 1}
    await runtime.close()


async def test_a_forked_child_begins_with_a_copy() -> None:
    runtime = host(how={"session_isolation": "forked"})
    await runtime.session_manager.set_state("s", {"old": 1})
    await runtime.session_manager.append_message("s", {"role": "user", "content": "before"})

    result, _ = await recorded(runtime, request("do it"))

    assert result.final_output["output"]["state"]["old"] == 1
    assert result.final_output["output"]["transcript"] == 1
    assert "child was here" not in await runtime.session_manager.get_state("s")


async def test_an_agent_may_delegate_to_itself_in_its_own_session() -> None:
    runtime = host(how={"session_isolation": "shared", "to": "a", "how": "delegate"}, max_delegation_depth=2)

    result, _ = await recorded(runtime, request("do it"))

    inner = result.final_output
    assert inner["stop"] == "completed"
    assert inner["output"]["stop"] == "failed"  # the third lies too deep


async def test_delegation_ends_at_its_depth() -> None:
    result, _ = await recorded(host(max_delegation_depth=3), request("go", agent="deep"))

    assert result.final_output == "delegation.depth_exceeded"


async def test_a_transfer_ends_the_run_with_the_childs_result() -> None:
    runtime = host(how={"how": "transfer"})

    result, _ = await recorded(runtime, request("do it"))

    assert result.stop_reason is StopReason.COMPLETED
    assert result.final_output == {"state": {}, "transcript": 0}
    assert result.metadata["handoff_from"] != result.run_id
    (_, answer) = await runtime.session_manager.load_messages("s")
    assert answer["content"] == result.final_output


async def test_a_transfer_to_an_agent_that_fails_fails() -> None:
    result, _ = await recorded(host(how={"how": "transfer", "to": "a"}, max_delegation_depth=1), request("do it"))

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == "delegation.depth_exceeded"


async def test_a_background_child_is_asked_for_later() -> None:
    result, _ = await recorded(host(how={"background": True}), request("do it"))

    assert result.final_output["status"] == "completed"
    assert result.final_output["output"] == {"state": {}, "transcript": 0}
    assert result.final_output["unknown"] is None


async def test_a_background_child_cannot_share_the_session() -> None:
    how = {"background": True, "session_isolation": "shared"}

    result, _ = await recorded(host(how=how), request("do it"))

    assert result.error_details is not None
    assert "cannot share" in result.error_details.message


@pytest.mark.parametrize("how", [{}, {"background": True}])
async def test_what_a_child_spends_counts_against_its_parent(how: dict[str, Any]) -> None:
    result, _ = await recorded(host(how=how), request("do it"))

    assert result.usage.tool_calls == 2


async def test_what_a_background_child_spent_counts_though_nobody_asked_after_it() -> None:
    result, _ = await recorded(host(), request("do it", agent="forgetting"))
    assert (result.final_output, result.usage.tool_calls) == ("done", 2)


async def test_what_a_child_spends_counts_once_however_often_its_parent_resumes() -> None:
    result, events = await recorded(host(), request("do it", agent="resuming", durable=True))

    assert names(events).count("run.resume_succeeded") == 1
    assert result.stop_reason is StopReason.COMPLETED
    assert result.usage.tool_calls == 2


async def test_a_child_may_spend_no_more_than_its_parent_has_left() -> None:
    runtime = host(how={"budget": RunBudget(max_tool_calls=9)}, child="Budgeted")

    result, _ = await recorded(runtime, request("do it", budget=RunBudget(max_tool_calls=3, max_cost_usd=0.5)))

    assert result.final_output["output"] == {"max_tool_calls": 3, "max_cost_usd": 0.5}


async def test_a_run_without_money_has_no_children() -> None:
    result, events = await recorded(host(), request("do it", budget=RunBudget(max_cost_usd=0.0)))

    assert result.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert names(events).count("run.started") == 1


async def test_an_unknown_agent_is_refused_with_a_near_match() -> None:
    result, _ = await recorded(host(how={"to": "chlid"}), request("do it"))

    assert result.error_details is not None
    assert result.error_details.code == "user.agent_not_found"
    assert "Did you mean 'child'?" in (result.error_details.hint or "")


async def test_children_have_their_parents_id_and_ids_that_follow_from_it() -> None:
    results = [(await recorded(host(), request("do it", run_id="same")))[0] for _ in range(2)]

    first, second = (result.final_output["child"] for result in results)
    assert first == second != "same"
