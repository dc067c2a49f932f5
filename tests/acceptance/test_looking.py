"""``runlane status``, ``runs``, ``show``, ``sessions`` and ``doctor``, as the command tells them, without workers."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from typing import Any

import pytest

from producer.client import AsyncClient
from producer.sync_client import Client
from runtime_core.contracts.run import StopReason
from runtime_core.contracts.run_story import RunFilter
from runtime_core.store import keys
from runtime_core.store.connection import connect, connect_sync
from runtime_core.store.leases import LeaseStore
from tests.acceptance.command import Command, wait_until
from tests.integration.attempt_by_hand import AttemptByHand
from tests.integration.dead_letter_by_hand import give_up

PARTITIONS = 64
#: Shown escaped: a session's name may not write to the operator's terminal.
RUDE = "of r1\x1b[31m"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def runlane(redis_url: str) -> Command:
    asyncio.run(scene(redis_url))
    return Command(RUNLANE_REDIS_URL=redis_url, COLUMNS="200", TERM="xterm", NO_COLOR="1")


async def scene(url: str) -> None:
    """A worker that beats for an hour; done is completed, r1 executes, r2 and r3 wait for it, dead was given up on."""
    redis = connect(url)
    async with AsyncClient(url) as client:
        words = {"node": "by-hand@h", "release": "1", "concurrency": "4", "executing": "1", "config_version": "1"}
        await LeaseStore(redis).heartbeat("by-hand", words, accepting=True, ttl_ms=3_600_000)
        await client.submit(agent_id="assistant", session_id="of done", input_text="secret text", run_id="done")
        done = await AttemptByHand.begin(redis, "done", PARTITIONS)
        await done.finish(final_output="42")
        for run in ("r1", "r2", "r3"):
            await client.submit(agent_id="reader", session_id=RUDE, input_text="hi", run_id=run)
        await AttemptByHand.begin(redis, "r1", PARTITIONS)
        await client.submit(agent_id="assistant", session_id="of dead", input_text="hi", run_id="dead")
        await give_up(redis, "dead", PARTITIONS)
    await redis.aclose()


class Terminal:
    """A command on a terminal of 200 columns; ``shown`` is what it wrote so far."""

    def __init__(self, runlane: Command, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = runlane.start(*arguments, terminal=theirs)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._bytes = bytearray()

    @property
    def shown(self) -> str:
        try:
            while part := os.read(self._ours, 65536):
                self._bytes += part
        except OSError:  # nothing more for now, or for ever
            pass
        return self._bytes.decode(errors="replace")

    def end(self) -> int:
        """Its exit code. What it writes is read all the time, else it would wait for that."""
        wait_until(lambda: bool(self.shown) and self.process.poll() is not None, "the command ends")
        return self.process.wait(0)


def on_a_terminal(runlane: Command, *arguments: str, code: int = 0) -> str:
    terminal = Terminal(runlane, *arguments)
    assert terminal.end() == code, terminal.shown
    return terminal.shown


def test_status_tells_workers_partitions_and_runs(runlane: Command) -> None:
    ended = runlane("status", "--partitions")
    assert ended.returncode == 0, ended.stderr
    (status,) = lines(ended.stdout)
    assert (status["pending"], status["finished"], status["partition_count"]) == (3, 2, PARTITIONS)
    assert [worker["name"] for worker in status["workers"]] == ["by-hand"]
    assert len(status["partitions"]) == PARTITIONS
    assert sum(status["partition_states"].values()) == PARTITIONS
    shown = on_a_terminal(runlane, "status")
    assert "runs: 3 unfinished, 2 finished, 5 submitted" in shown
    assert "1/4" in shown
    assert "p0000" not in shown


def test_runs_are_listed_and_filtered(runlane: Command) -> None:
    everything = lines(runlane("runs").stdout)
    assert {run["run_id"] for run in everything} == {"done", "r1", "r2", "r3", "dead"}
    filters = ["--session", RUDE, "--agent", "reader", "--state", "queued", "--since", "2h", "--limit", "1"]
    (one,) = lines(runlane("runs", *filters).stdout)
    assert (one["session_id"], one["state"]) == (RUDE, "queued")
    assert [run["run_id"] for run in lines(runlane("runs", "--status", "completed").stdout)] == ["done"]
    assert runlane("runs", "--tenant", "another").stdout == ""
    shown = on_a_terminal(runlane, "runs")
    assert "of r1\\x1b[31m" in shown
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--state", "runing"], "Did you mean 'running'?"),
        (["--status", "x"], "use completed, failed"),
        (["--since", "soon"], "use 30s, 15m, 2h or 1d"),
    ],
)
def test_a_filter_that_is_none_is_a_usage_error(arguments: list[str], advice: str) -> None:
    ended = Command(RUNLANE_REDIS_URL="redis://127.0.0.1:1/0")("runs", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert advice in ended.stderr


def test_show_tells_a_runs_whole_story(runlane: Command) -> None:
    (story,) = lines(runlane("show", "r3").stdout)
    assert story["summary"].startswith("queued behind 2 runs of its session; the first has been running for ")
    (done,) = lines(runlane("show", "done").stdout)
    assert [event["event"] for event in done["events"]] == ["run.queued", "run.started", "run.finished"]
    assert (done["record"]["status"], done["request"]["input_length"]) == ("completed", 11)
    assert "secret text" not in json.dumps(done)
    (dead,) = lines(runlane("show", "dead", "--events", "1").stdout)
    assert dead["summary"] == "given up on: see runlane dead show dead"
    assert (len(dead["attempts"]), len(dead["events"]), dead["event_count"] > 1) == (5, 1, True)
    unknown = runlane("show", "nobody")
    assert (unknown.returncode, "there is no run 'nobody'" in unknown.stderr) == (2, True)
    shown = on_a_terminal(runlane, "show", "done", "--input")
    assert "result: 42" in shown
    assert "secret text" in shown


def test_sessions_are_listed_and_one_is_shown(runlane: Command) -> None:
    first, *others = lines(runlane("sessions").stdout)
    assert (first["session_id"], first["pending"], first["live_run"]) == (RUDE, 3, "r1")
    assert {session["session_id"] for session in others} == {"of done", "of dead"}
    assert "3: r1, r2, r3" in on_a_terminal(runlane, "sessions", "-s", RUDE)


def test_doctor_exits_3_for_an_error_and_0_for_warnings(runlane: Command, redis_url: str) -> None:
    assert "partitions without an owner" in on_a_terminal(runlane, "doctor", code=3)

    with connect_sync(redis_url) as redis:
        for partition in range(PARTITIONS):
            redis.hset(keys.lease(partition), mapping={"owner": "by-hand#1", "fence": "9", "expires": 2**52})
    well = runlane.where(RUNLANE_TENNANT="t")("doctor")
    assert well.returncode == 0, well.stdout
    found = lines(well.stdout)
    assert {finding["severity"] for finding in found} == {"warning"}
    assert any("did you mean RUNLANE_TENANT?" in finding["what"] for finding in found)


def test_doctor_says_that_redis_is_away() -> None:
    away = Command(RUNLANE_REDIS_URL="redis://:hidden@127.0.0.1:1/0")("doctor")
    assert away.returncode == 3
    (finding,) = lines(away.stdout)
    assert (finding["check"], finding["severity"]) == ("redis", "error")
    assert "hidden" not in away.stdout + away.stderr


def test_a_spoilt_store_breaks_no_command(runlane: Command, redis_url: str) -> None:
    with connect_sync(redis_url) as redis:
        (key,) = redis.keys("*:run:r2")
        redis.hset(key, "submitted_ms", "then")
        redis.delete(keys.lease(0), keys.WORKERS)
        redis.set(keys.lease(0), "garbage")
        redis.set(keys.WORKERS, "garbage")
    said: dict[str, str] = {}
    for command in ("status", "runs", "show r2", "sessions", "doctor"):
        ended = runlane(*command.split())
        assert ended.returncode == (3 if command == "doctor" else 0), f"{command}: {ended.stderr}"
        said[command] = ended.stdout
    (row,) = [run for run in lines(said["runs"]) if run["run_id"] == "r2"]
    assert row["unreadable"] == "its submitted_ms is 'then', no number"
    assert "rl:{p0000}:lease" in said["doctor"]


def test_watch_redraws_a_terminal_until_ctrl_c(runlane: Command, redis_url: str) -> None:
    terminal = Terminal(runlane, "status", "--watch", "--every", "0.1")
    wait_until(lambda: "3 unfinished" in terminal.shown, "the first look is shown")
    with connect_sync(redis_url) as redis:
        redis.hset(keys.stats(0), "pending", 1_000)
    wait_until(lambda: "1,003 unfinished" in terminal.shown, "a later look is shown")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130


def test_watch_writes_a_line_for_each_look_to_a_pipe(runlane: Command) -> None:
    process = runlane.start("runs", "--watch", "--every", "0.1")
    assert process.stdout is not None
    looks = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert all({run["run_id"] for run in one["runs"]} == {"done", "r1", "r2", "r3", "dead"} for one in looks)
    assert looks[0]["now_ms"] < looks[1]["now_ms"]


def test_the_blocking_client_has_the_same_lists(runlane: Command, redis_url: str) -> None:
    with Client(redis_url) as client:
        assert [row.run_id for row in client.runs(RunFilter(status=StopReason.COMPLETED)).rows] == ["done"]
        assert client.story("r3").ahead == 2
        assert {view.session_id for view in client.sessions().sessions} == {RUDE, "of done", "of dead"}
        assert client.session(RUDE).run_ids == ("r1", "r2", "r3")
