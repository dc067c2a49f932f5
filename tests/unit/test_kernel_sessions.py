"""What runs of a session share, and what they must not."""

from __future__ import annotations

import asyncio

from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.events.bus import RuntimeEvent
from runtime_core.kernel.runtime import Runtime
from tests.unit.kernel_plugins import ClosingMemory
from tests.unit.kernel_setup import config, names, plugin, recorded, request, runtime


async def test_memory_remembers_the_runs_of_its_session_only() -> None:
    host = runtime()

    answers = [
        (await host.run_detailed(request(text, session=session))).final_output
        for text, session in (("one", "s1"), ("two", "s1"), ("three", "s2"))
    ]

    assert answers == ["Echo: one (history=0)", "Echo: two (history=1)", "Echo: three (history=0)"]


async def test_a_window_keeps_the_newest_exchanges() -> None:
    host = runtime(memory={"type": "window_buffer", "config": {"window_size": 2}})

    answers = [(await host.run_detailed(request(str(number)))).final_output for number in range(5)]

    assert answers[-1] == "Echo: 4 (history=2)"


async def test_fresh_plugins_take_their_memory_from_the_transcript() -> None:
    first = runtime()
    await first.run_detailed(request("one"))
    await first.run_detailed(request("two"))
    elsewhere = Runtime(first.config, session_manager=first.session_manager)

    warm = await first.run_detailed(request("three", run_id="r3"))
    cold = await elsewhere.run_detailed(request("three", run_id="r3"))

    assert warm.final_output == cold.final_output == "Echo: three (history=2)"
    assert (warm.metadata["cache_hit"], cold.metadata["cache_hit"]) == (True, False)


async def test_failed_runs_are_not_remembered() -> None:
    failing = runtime(pattern=plugin("Raising", raises="value"))
    await failing.run_detailed(request("one"))
    working = Runtime(Runtime.from_dict(config()).config, session_manager=failing.session_manager)

    assert (await working.run_detailed(request("two"))).final_output == "Echo: two (history=0)"


async def test_an_attempt_does_not_remember_the_attempt_that_it_repeats() -> None:
    host, run = runtime(), request("one")
    await host.execute(run)

    assert (await host.execute(run)).final_output == "Echo: one (history=0)"


async def test_agents_of_a_session_have_memories_of_their_own() -> None:
    host = Runtime.from_dict({"agents": config(agent_id="a")["agents"] + config(agent_id="b")["agents"]})

    await host.run_detailed(request("one", agent="a"))
    result = await host.run_detailed(request("two", agent="b"))

    assert result.final_output == "Echo: two (history=0)"


async def test_nothing_of_a_run_leaks_into_the_next() -> None:
    host = runtime(pattern=plugin("Seeing"))

    outputs = [(await host.run_detailed(request())).final_output for _ in range(3)]

    assert [(output["scratch"], output["results"]) for output in outputs] == [({}, [])] * 3


async def test_concurrent_streams_of_two_sessions_do_not_leak_into_each_other() -> None:
    host = runtime()

    async def read(run: RunRequest) -> tuple[set[str], RunResult | None, str]:
        chunks = [chunk async for chunk in host.run_stream(run)]
        text = "".join(chunk.payload.get("text", "") for chunk in chunks)
        return {chunk.run_id for chunk in chunks}, chunks[-1].result, text

    runs = [request(f"text of {number}", session=f"s{number}") for number in range(20)]
    outcomes = await asyncio.gather(*map(read, runs))

    for run, (run_ids, result, text) in zip(runs, outcomes, strict=True):
        assert run_ids == {run.run_id}
        assert result is not None
        assert result.final_output == text == f"Echo: {run.input_text} (history=0)"


async def test_concurrent_runs_of_one_session_execute_one_after_the_other() -> None:
    host, order = runtime(), list[tuple[str, str | None]]()

    def note(event: RuntimeEvent) -> None:
        order.append((event.name, event.ids.run_id if event.ids else None))

    host.event_bus.subscribe("session.acquired", note)
    host.event_bus.subscribe("run.completed", note)

    await asyncio.gather(*(host.run_detailed(request(run_id=f"r{number}")) for number in range(5)))

    # a run is announced complete after it has left its session, so only the order of entering is certain
    assert [run for name, run in order if name == "session.acquired"] == [f"r{number}" for number in range(5)]
    assert (await host.run_detailed(request())).final_output == "Echo: hello (history=5)"


async def test_a_pattern_of_the_openagents_sdk_runs_unchanged() -> None:
    host = runtime(pattern=plugin("OpenAgentsStylePattern"))

    result, events = await recorded(host, request("6*7"))

    assert result.final_output == "Echo: 42 (history=0)", result.error_details
    custom = next(event for event in events if event.name == "custom.event")
    assert custom.payload == {"detail": 1}
    assert await host.session_manager.get_state("s") == {"seen": ["6*7"]}


async def test_a_pattern_needs_only_execute() -> None:
    result = await runtime(pattern={"impl": "tests.unit.kernel_plugins.BareExecute"}).run_detailed(request())

    assert result.final_output == "bare"


async def test_closing_a_session_closes_its_memory_and_the_next_run_starts_fresh() -> None:
    ClosingMemory.closed.clear()
    host = runtime(memory=plugin("ClosingMemory"))
    hits = [(await host.run_detailed(request())).metadata["cache_hit"] for _ in range(2)]

    await host.close_session("s")

    assert ClosingMemory.closed == ["closed"]
    assert [*hits, (await host.run_detailed(request())).metadata["cache_hit"]] == [False, True, False]
    await host.close()
    assert ClosingMemory.closed == ["closed", "closed"]


async def test_an_event_after_its_run_reaches_the_bus_but_not_the_sink() -> None:
    host = runtime(pattern=plugin("Emitting"))

    _, events = await recorded(host, request())
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))

    assert "late.event" not in names(events)
    assert len(await host.event_bus.get_history("late.event")) == 1
