"""Every context assembler of the registry, driven through the same conversation; and what each keeps."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.config.schema import PluginRef
from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import StopReason
from runtime_core.contracts.session import SessionArtifact
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.builtin.session.in_memory import InMemorySession
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.kernel_setup import config, names, recorded, request

ASSEMBLERS = sorted(BUILTINS[Seam.CONTEXT_ASSEMBLER])
#: 10 tokens.
_TEN = "x" * 40


class Seen:
    """A pattern that says what the run was given of the past."""

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def execute(self) -> dict[str, Any]:
        context = self.context
        return {
            "transcript": [(message["role"], message["content"]) for message in context.transcript],
            "artifacts": [artifact.name for artifact in context.session_artifacts],
            "metadata": dict(context.assembly_metadata),
        }


def exchange(number: int, *, tool: bool = False, text: str = _TEN) -> list[dict[str, Any]]:
    called = [
        {"role": "assistant", "content": "", "tool_calls": [{"id": f"c{number}"}]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": "found"},
    ]
    return [
        {"role": "user", "content": f"question {number}"},
        *(called if tool else []),
        {"role": "assistant", "content": text},
    ]


async def chosen(name: str, messages: list[dict[str, Any]], **settings: Any) -> list[str]:
    """The contents that the assembler lets pass, of a session with ``messages``."""
    session = InMemorySession()
    for message in messages:
        await session.append_message("s", message)
    assembler: Any = load_plugin(Seam.CONTEXT_ASSEMBLER, PluginRef(type=name, config=settings))
    assembly = await assembler.assemble(request=request(), session_state={}, session_manager=session)
    assert await session.load_messages("s") == messages, "what is stored stays"
    assert len(messages) == assembly.metadata["omitted_messages"] + sum(
        message in messages for message in assembly.transcript
    )
    return [str(message["content"]) for message in assembly.transcript]


@pytest.mark.parametrize("name", ASSEMBLERS)
async def test_an_assembler_chooses_and_says_what_it_left_out(name: str) -> None:
    few = {"max_messages": 4} if name == "truncating" else {"max_input_tokens": 70, "reserve_for_response": 10}
    runtime = Runtime.from_dict(
        config(
            pattern={"impl": "tests.unit.test_seam_context_assembler.Seen"},
            context_assembler={"type": name, "config": {**few, "max_artifacts": 1}},
        )
    )
    sessions = runtime.session_manager
    for number in range(8):
        for message in exchange(number, tool=number == 4):
            await sessions.append_message("s", message)
    for artifact in ("old", "new"):
        await sessions.save_artifact("s", SessionArtifact(name=artifact))

    result, events = await recorded(runtime, request())

    assert result.stop_reason is StopReason.COMPLETED, result.error_details
    assert names(events).count("context.assemble.completed") == 1
    seen = result.final_output
    assert ("user", "question 7") in seen["transcript"]
    assert ("user", "question 2") not in seen["transcript"]
    assert seen["artifacts"] == ["new"]
    metadata = seen["metadata"]
    assert metadata["strategy"] == name
    assert metadata["omitted_artifacts"] == 1
    kept = [entry for entry in seen["transcript"] if "omitted" not in entry[1]]
    assert metadata["omitted_messages"] == 18 - len(kept) > 0
    assert len(await sessions.load_messages("s")) == 20, "what is stored stays, and this run was added"
    await runtime.close()


@pytest.mark.parametrize("name", ASSEMBLERS)
async def test_an_assembler_never_cuts_an_exchange(name: str) -> None:
    messages = [message for number in range(12) for message in exchange(number, tool=number % 3 == 0)]
    for size in range(1, 60):
        settings = {"max_messages": size} if name == "truncating" else {"max_input_tokens": 4 * size}
        kept = [one for one in await chosen(name, messages, **settings) if not one.startswith("Summary")]
        while kept:
            number = int(kept[0].removeprefix("question "))
            length = 4 if number % 3 == 0 else 2
            assert len(kept) >= length
            assert kept[length - 1] == _TEN
            kept = kept[length:]


@pytest.mark.parametrize("name", ASSEMBLERS)
async def test_an_assembler_of_a_new_session_gives_nothing(name: str) -> None:
    assert await chosen(name, []) == []


async def test_truncating_puts_a_note_in_front_unless_told_not_to() -> None:
    messages = [*exchange(0), *exchange(1), *exchange(2)]
    assert await chosen("truncating", messages, max_messages=3) == [
        "Summary: omitted 4 older message(s)",
        "question 2",
        _TEN,
    ]
    assert await chosen("truncating", messages, max_messages=3, include_summary_message=False) == ["question 2", _TEN]
    assert len(await chosen("truncating", messages, max_messages=6)) == 6


def test_a_budget_without_room_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for settings, told in (({"max_input_tokens": 1_000}, True), ({"max_input_tokens": 2_001}, False)):
        caplog.clear()
        load_plugin(Seam.CONTEXT_ASSEMBLER, PluginRef(type="sliding_window", config=settings))
        assert ("leaves no room in max_input_tokens (1000)" in caplog.text) is told


async def test_head_tail_keeps_the_beginning_whatever_it_costs() -> None:
    messages = [{"role": "system", "content": "be kind"}, *exchange(0), *exchange(1), *exchange(2)]
    kept = await chosen("head_tail", messages, head_messages=2, max_input_tokens=30, reserve_for_response=0)
    assert kept == ["be kind", "question 0", _TEN, "Summary: omitted 2 message(s) from the middle.", "question 2", _TEN]


async def test_importance_weighted_passes_over_what_is_too_large() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        *exchange(0),
        *exchange(1, tool=True),
        *exchange(2, text="y" * 400),
        *exchange(3),
    ]
    settings = {"max_input_tokens": 30, "reserve_for_response": 0}
    kept = await chosen("importance_weighted", messages, **settings)
    assert kept == ["be kind", "question 1", "", "found", _TEN, "question 3", _TEN]


async def test_sliding_window_leaves_room_for_the_answer() -> None:
    messages = [*exchange(0), *exchange(1)]
    assert len(await chosen("sliding_window", messages, max_input_tokens=24, reserve_for_response=0)) == 4
    assert len(await chosen("sliding_window", messages, max_input_tokens=24, reserve_for_response=1)) == 2
    assert await chosen("sliding_window", messages, max_input_tokens=1, reserve_for_response=5) == []


class WholeTranscripts(InMemorySession):
    """Has no way to read the end of a transcript alone."""

    load_newest_messages = None  # pyright: ignore[reportAssignmentType]


class EndsOfTranscripts(InMemorySession):
    """Cannot be read from the beginning."""

    async def load_messages(self, session_id: str) -> list[dict[str, Any]]:
        raise AssertionError("the whole transcript was read")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sliding_window", {"max_input_tokens": 2_100, "reserve_for_response": 0}),
        ("sliding_window", {"max_input_tokens": 9_000, "reserve_for_response": 0}),
        ("truncating", {"max_messages": 7}),
        ("truncating", {"max_messages": 300}),
        ("truncating", {"max_messages": 5_000}),
    ],
)
async def test_what_keeps_the_newest_reads_the_end_of_a_long_transcript_and_gives_the_same(
    name: str, settings: dict[str, int]
) -> None:
    assembler: Any = load_plugin(Seam.CONTEXT_ASSEMBLER, PluginRef(type=name, config=settings))
    given: list[Any] = []
    for sessions in (WholeTranscripts(), EndsOfTranscripts()):
        for number in range(600):
            for message in exchange(number, tool=number % 3 == 0):
                await sessions.append_message("s", message)
        given.append(await assembler.assemble(request=request(), session_state={}, session_manager=sessions))
    whole, end = given
    assert end.transcript == whole.transcript
    assert end.metadata["omitted_messages"] == whole.metadata["omitted_messages"]
    assert end.metadata["omitted_tokens"] in (None, 0)
