"""The ``runlane`` command as people and scripts meet it: real processes, a real fleet started by ``runlane up``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime_core.embedded import EmbeddedRedis
from tests.acceptance.command import Command, wait_until

AGENTS = Path(__file__).parents[2] / "producer" / "cli" / "demo" / "agents.yaml"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "notes.txt").write_text("the lighthouse keeper counts nine ships\n")
    return folder


@pytest.fixture(scope="module")
def runlane(folder: Path) -> Iterator[Command]:
    """A command whose Redis has two workers, started by ``runlane up``, stopped by Ctrl-C."""
    up_command = Command(RUNLANE_READER_ROOT=str(folder))
    up = up_command.start("up", "--config", str(AGENTS), "--workers", "2")
    assert up.stderr is not None
    said: list[str] = []
    for line in up.stderr:
        said.append(line)
        if "Ctrl-C stops" in line:
            break
    else:
        pytest.fail("".join(said))
    url = next(line.partition("=")[2].strip() for line in said if "RUNLANE_REDIS_URL=" in line)
    yield Command(RUNLANE_REDIS_URL=url)
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert up.returncode == 130
    assert up_command.living() == {}


@pytest.fixture(scope="module")
def lonely() -> Iterator[Command]:
    """A command whose Redis has no workers: its runs stay queued."""
    with EmbeddedRedis() as redis:
        yield Command(RUNLANE_REDIS_URL=redis.url)


def test_run_does_real_work_on_a_file_and_prints_json_lines(runlane: Command) -> None:
    ended = runlane("run", "--agent", "reader", "--session", "s1", "/tool read_file notes.txt")
    assert ended.returncode == 0, ended.stderr
    chunks = lines(ended.stdout)
    assert [chunk["sequence"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert chunks[-1]["kind"] == "run.finished"
    assert "nine ships" in json.dumps(chunks[-1]["result"]["final_output"])
    assert {"worker", "attempt", "partition", "config_version", "cache_hit"} <= chunks[-1]["result"]["metadata"].keys()


def test_run_reads_its_input_from_a_pipe(runlane: Command) -> None:
    ended = runlane("run", "--agent", "assistant", "-", stdin="from a pipe")
    assert "from a pipe" in lines(ended.stdout)[-1]["result"]["final_output"]


@pytest.mark.parametrize("locale", ["utf-8:strict", "ascii", "latin-1"])
def test_a_pipe_is_utf_8_whatever_the_locale(runlane: Command, locale: str) -> None:
    elsewhere = runlane.where(PYTHONIOENCODING=locale)
    ended = elsewhere("run", "--agent", "assistant", "-", stdin="naïve ☃")
    assert ended.returncode == 0, ended.stderr
    assert "naïve ☃" in lines(ended.stdout)[-1]["result"]["final_output"]
    for refused in (
        elsewhere("run", "-a", "assistant", "-", stdin="caf\udce9"),
        elsewhere("run", "-a", "a", b"caf\xe9"),
    ):
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "not UTF-8: byte 3 is 0xe9" in refused.stderr


def test_a_run_submitted_here_is_streamed_from_the_middle_and_awaited_there(runlane: Command) -> None:
    (submitted,) = lines(runlane("submit", "-a", "assistant", "-s", "s2", "hello").stdout)
    run_id = submitted["run_id"]
    (result,) = lines(runlane("result", run_id, "--timeout", "20").stdout)
    assert result["stop_reason"] == "completed"
    whole = lines(runlane("stream", run_id).stdout)
    assert lines(runlane("stream", run_id, "--after", "3").stdout) == whole[3:]


def test_a_failed_run_exits_3_and_says_why(runlane: Command) -> None:
    ended = runlane("run", "--agent", "assistent", "hello")
    assert ended.returncode == 3
    assert "Did you mean 'assistant'?" in ended.stderr
    assert lines(ended.stdout)[-1]["result"]["stop_reason"] == "failed"


def test_a_durable_run_within_its_budget_is_resumed_from_one_of_its_steps(runlane: Command) -> None:
    tool = ("--agent", "reader", "--session", "steps", "/tool read_file notes.txt")
    first = runlane("run", "--run-id", "stepped", "--durable", "--budget", "max_tool_calls=1", *tool)
    again = runlane("run", "--resume-from", "stepped:step:2", *tool)
    over = runlane("run", "--budget", "max_tool_calls=1", "-b", "max_steps=1", *tool)

    assert first.returncode == 0, first.stderr
    assert [line["kind"] for line in lines(first.stdout)].count("run.checkpoint_saved") >= 2
    assert "run.resume_succeeded" in [line["kind"] for line in lines(again.stdout)]
    assert "tool.started" not in [line["kind"] for line in lines(again.stdout)], "it was answered from the step"
    assert over.returncode == 3
    assert "max_steps" in over.stderr


def test_ctrl_c_leaves_a_stream_and_says_the_way_back(lonely: Command) -> None:
    run_id = lines(lonely("submit", "-a", "assistant", "hello").stdout)[0]["run_id"]
    stream = lonely.start("stream", run_id)
    assert stream.stdout is not None
    assert json.loads(stream.stdout.readline())["kind"] == "run.queued"
    stream.send_signal(signal.SIGINT)
    _, errors = stream.communicate(timeout=20)
    assert stream.returncode == 130
    assert f"runlane stream {run_id} --after 1" in errors


def test_a_queued_run_is_cancelled_and_its_time_may_be_up(lonely: Command) -> None:
    run_id = lines(lonely("submit", "-a", "assistant", "hello").stdout)[0]["run_id"]
    assert lonely("result", run_id, "--timeout", "0.1").returncode == 124
    assert lines(lonely("cancel", run_id).stdout) == [{"run_id": run_id, "outcome": "cancelled"}]
    assert lonely("result", run_id).returncode == 3


def test_wrong_input_exits_2_with_a_hint(lonely: Command) -> None:
    unknown = lonely("result", "nope")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no run 'nope'" in unknown.stderr
    assert "hint:" in unknown.stderr
    assert lonely("run", "-a", "assistant", "--run-id", "no spaces", "x").returncode == 2


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("max_tool_call=5", "Did you mean 'max_tool_calls'?"),
        ("max_tool_calls", "'max_tool_calls' has no number"),
        ("max_tool_calls=few", "max_tool_calls is 'few'"),
        ("max_cost_usd=-1", "max_cost_usd is '-1'"),
    ],
)
def test_a_limit_that_is_none_is_named(lonely: Command, limit: str, said: str) -> None:
    ended = lonely("submit", "-a", "assistant", "--budget", limit, "hello")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_an_absent_redis_exits_2_without_showing_the_password() -> None:
    ended = Command()("submit", "-a", "a", "x", "--redis-url", "redis://me:secret@127.0.0.1:1/0")
    assert ended.returncode == 2
    assert "cannot be reached" in ended.stderr
    assert "secret" not in ended.stderr


def test_a_refused_login_is_told_as_such(lonely: Command) -> None:
    ended = lonely.where(RUNLANE_REDIS_URL=lonely["RUNLANE_REDIS_URL"].replace("://", "://me:secret@"))(
        "submit", "-a", "a", "x"
    )
    assert ended.returncode == 2
    assert "refused the login" in ended.stderr
    assert "secret" not in ended.stderr


def test_ctrl_c_while_the_command_is_imported_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    ended = Command(PYTHONPATH=str(tmp_path))("up")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "-a", "x", "--after", "y", "text"]])
def test_a_wrong_command_line_exits_1(arguments: list[str]) -> None:
    assert Command()(*arguments).returncode == 1


def test_help_and_version_exit_0() -> None:
    assert "demo" in Command()("--help").stdout
    assert "Example" in Command()("stream", "--help").stdout
    assert Command()("version").stdout.strip()


def test_validate_accepts_the_demo_agents() -> None:
    ended = Command()("validate", str(AGENTS))
    assert ended.returncode == 0
    assert lines(ended.stdout)[0] == {
        "file": str(AGENTS),
        "valid": True,
        "agents": ["assistant", "reader"],
        "problems": [],
    }


def test_validate_looks_at_every_section_and_tells_what_a_worker_refuses(tmp_path: Path) -> None:
    agent = {"id": "a", "name": "A", "memory": {"type": "buffer"}, "pattern": {"type": "react"}}
    sections = {"skills": {"type": "locl"}, "diagnostics": {"type": "langfuse"}}
    session = {"type": "jsonl_file", "config": {"root_dir": str(tmp_path / "sessions")}}
    file = tmp_path / "agents.json"
    file.write_text(json.dumps({"agents": [agent], "session": session, **sections}))

    ended = Command()("validate", str(file))

    assert ended.returncode == 2
    assert "note: session type 'jsonl_file'" in ended.stderr
    assert [problem["message"].partition(":")[0] for problem in lines(ended.stdout)[0]["problems"]] == [*sections]


def test_validate_reports_every_plugin_that_cannot_be_loaded(tmp_path: Path) -> None:
    agents = json.dumps(
        {
            "agents": [
                {
                    "id": "a",
                    "name": "A",
                    "memory": {"type": "bufer"},
                    "pattern": {"impl": "no_such_module.Pattern"},
                }
            ]
        }
    )
    (tmp_path / "agent.json").write_text(agents)
    ended = Command()("validate", str(tmp_path / "agent.json"))
    assert ended.returncode == 2
    (report,) = lines(ended.stdout)
    assert len(report["problems"]) == 2
    assert "agents[0].memory" in ended.stderr
    assert "Did you mean 'buffer'?" in ended.stderr
    assert "no_such_module" in ended.stderr


@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_wrong_agents_file_is_named_before_anything_starts(command: str, tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text("agents:\n  - id: [unclosed\n")
    ended = Command()(command, "--config", str(tmp_path / "agents.yaml"))
    assert ended.returncode == 2
    assert "line" in ended.stderr
    assert "Redis" not in ended.stderr


def test_validate_names_the_line_of_malformed_yaml(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text("agents:\n  - id: [unclosed\n")
    ended = Command()("validate", str(tmp_path / "agents.yaml"))
    assert ended.returncode == 2
    assert "line" in ended.stderr


def test_worker_with_a_wrong_agents_file_exits_2() -> None:
    refused = Command()("worker", "--config", "missing.yaml")
    assert refused.returncode == 2
    assert "agents file missing.yaml does not exist" in refused.stderr


def test_worker_becomes_a_celery_worker_that_ends_in_order() -> None:
    with EmbeddedRedis() as redis:
        command = Command(RUNLANE_REDIS_URL=redis.url)
        worker = command.start("worker", "--config", str(AGENTS), "--name", "alone", "--concurrency", "4")
        ended = command("run", "-a", "assistant", "are you there?")
        assert ended.returncode == 0, ended.stderr
        assert "alone@" in lines(ended.stdout)[-1]["result"]["metadata"]["worker"]
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=40)
        assert worker.returncode == 0
        wait_until(lambda: not command.living(), "the worker is gone")
