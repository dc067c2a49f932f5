"""``runlane dead``, full queues and queue deadlines, as the command tells them. No workers: the store is enough."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from typing import Any

import pytest

from producer.client import AsyncClient
from runtime_core.store.connection import connect
from tests.acceptance.command import Command
from tests.integration.dead_letter_by_hand import give_up

PARTITIONS = 64


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def runlane(redis_url: str) -> Command:
    return Command(RUNLANE_REDIS_URL=redis_url)


def poison(runlane: Command, *run_ids: str) -> None:
    """Submit runs of a session each and give up on them."""

    async def kill() -> None:
        redis = connect(url)
        async with AsyncClient(url) as client:
            for run_id in run_ids:
                await client.submit(
                    agent_id="assistant", session_id=f"of {run_id}", input_text="hello [bold]you", run_id=run_id
                )
                await give_up(redis, run_id, PARTITIONS)
        await redis.aclose()

    url = runlane["RUNLANE_REDIS_URL"]
    asyncio.run(kill())


def on_a_terminal(runlane: Command, *arguments: str, answer: str = "") -> str:
    """What the command writes to a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    command = runlane.where(COLUMNS="200", TERM="xterm", NO_COLOR="1")
    with command.start(*arguments, terminal=theirs) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        shown = bytearray()
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # as Linux says that the other side has closed
            pass
        assert process.wait(30) == 0, shown.decode()
    os.close(ours)
    return shown.decode()


def test_a_dead_letter_is_listed_shown_and_redriven(runlane: Command) -> None:
    assert runlane("dead", "list").stdout == ""
    poison(runlane, "p1")

    (entry,) = lines(runlane("dead", "list").stdout)
    assert (entry["run_id"], entry["session_id"]) == ("p1", "of p1")
    (letter,) = lines(runlane("dead", "show", "p1").stdout)
    assert letter["record"]["status"] == "dead_letter"
    assert letter["request"]["input_text"] == "hello [bold]you"
    assert [one["attempt"] for one in letter["history"]] == [1, 2, 3, 4, 5]
    assert all("died" in one["reason"] for one in letter["history"])

    (again,) = lines(runlane("dead", "redrive", "p1").stdout)
    assert (again["redrive_of"], again["created"]) == ("p1", True)
    assert lines(runlane("dead", "redrive", "p1").stdout) == [again | {"created": False}]
    assert lines(runlane("dead", "show", "p1").stdout)[0]["redriven_as"] == again["run_id"]
    assert lines(runlane("cancel", again["run_id"]).stdout)[0]["outcome"] == "cancelled"


def test_a_terminal_gets_tables_with_every_count_and_the_history(runlane: Command) -> None:
    poison(runlane, "p1")
    shown = on_a_terminal(runlane, "dead", "list")
    assert "p1" in shown
    assert "of p1" in shown
    shown = on_a_terminal(runlane, "dead", "show", "p1")
    for words in ("charged in probation 3", "spared", "handovers", "hello [bold]you", "dead redrive p1"):
        assert words in shown
    assert shown.count(" died ") == 5 + 1, "each attempt's end, and why it was given up on"
    assert shown.count("crashes, charged") == 3


def test_all_are_redriven_once_and_only_on_purpose(runlane: Command) -> None:
    poison(runlane, "p1", "p2", "p3")
    runlane("dead", "redrive", "p2")
    unsure = runlane("dead", "redrive", "--all")
    assert (unsure.returncode, unsure.stdout) == (1, "")
    assert "redrive 2 dead letter(s)" in unsure.stderr
    assert "--yes" in unsure.stderr
    assert [one["redrive_of"] for one in lines(runlane("dead", "redrive", "--all", "--yes").stdout)] == ["p1", "p3"]
    assert runlane("dead", "redrive", "--all").stdout == ""


def test_a_person_is_asked_before_all_are_redriven(runlane: Command) -> None:
    poison(runlane, "p1")
    assert "Redrive 1 dead letter(s)?" in on_a_terminal(runlane, "dead", "redrive", "--all", answer="y\n")
    assert lines(runlane("dead", "show", "p1").stdout)[0]["redriven_as"]


@pytest.mark.parametrize("arguments", [["redrive"], ["redrive", "p1", "--all"], []])
def test_a_command_line_that_names_no_dead_letter_exits_1(runlane: Command, arguments: list[str]) -> None:
    assert runlane("dead", *arguments).returncode == 1


@pytest.mark.parametrize("verb", ["show", "redrive"])
def test_what_is_no_dead_letter_exits_2_with_the_fix(runlane: Command, verb: str) -> None:
    unknown = runlane("dead", verb, "nobody")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "no run 'nobody'" in unknown.stderr
    assert "check the id and the tenant" in unknown.stderr
    runlane("submit", "-a", "assistant", "--run-id", "alive", "hello")
    alive = runlane("dead", verb, "alive")
    assert alive.returncode == 2
    assert "`runlane dead list` shows those that are" in alive.stderr


def test_a_full_session_exits_75_and_says_when_to_try_again(runlane: Command) -> None:
    narrow = runlane.where(RUNLANE_SESSION_QUEUE_LIMIT="1")
    assert narrow("submit", "-a", "assistant", "-s", "s", "hello").returncode == 0
    full = narrow("submit", "-a", "assistant", "-s", "s", "again")
    assert (full.returncode, full.stdout) == (75, "")
    assert "the session has 1 unfinished runs" in full.stderr
    assert "try again in 1000 ms, or raise RUNLANE_SESSION_QUEUE_LIMIT" in full.stderr


def test_a_bad_setting_is_named(runlane: Command) -> None:
    ended = runlane.where(RUNLANE_SESSION_QUEUE_LIMIT="many")("submit", "-a", "assistant", "hello")
    assert ended.returncode == 2
    assert "RUNLANE_SESSION_QUEUE_LIMIT is 'many'" in ended.stderr


async def test_a_queue_deadline_reaches_the_run(runlane: Command, redis_url: str) -> None:
    ended = runlane("submit", "-a", "assistant", "--run-id", "r", "--queue-deadline", "1.5", "hello")
    assert ended.returncode == 0, ended.stderr
    async with AsyncClient(redis_url) as client:
        record = await client.get("r")
    assert record.deadline_ms == record.submitted_ms + 1500


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e300", "soon"])
def test_a_queue_deadline_that_is_no_time_within_a_year_is_a_usage_error(runlane: Command, seconds: str) -> None:
    ended = runlane("submit", "-a", "assistant", "--queue-deadline", seconds, "hello")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--queue-deadline" in ended.stderr
    assert "Traceback" not in ended.stderr
