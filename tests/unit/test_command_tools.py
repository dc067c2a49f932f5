"""Programs that a model starts: allowed ones, without a shell, in bounds, and ended as a whole."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime_core.errors import (
    PermanentToolError,
    PluginConfigError,
    ToolAuthError,
    ToolError,
    ToolTimeoutError,
    ToolValidationError,
)
from runtime_core.plugins.builtin.tool.environment import GetEnvTool, SetEnvTool
from runtime_core.plugins.builtin.tool.execute_command import ExecuteCommandTool
from runtime_core.plugins.builtin.tool.shell_exec import ShellExecTool

ALLOWED = ["cat", "echo", "env", "ls", "pwd", "sh"]


async def shell(command: Any, *, config: dict[str, Any] | None = None, context: Any = None, **params: Any) -> Any:
    tool = ShellExecTool({"command_allowlist": ALLOWED, **(config or {})})
    return await tool.invoke({"command": command, **params}, context)


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_failing_program_is_data() -> None:
    answer = await shell(["sh", "-c", "echo out; echo err >&2; exit 3"])

    assert answer == {"exit_code": 3, "stdout": "out\n", "stderr": "err\n", "timed_out": False, "truncated": False}
    short = ExecuteCommandTool({"command_allowlist": ALLOWED})
    answer = await short.invoke({"command": "sh -c 'exit 3'"}, None)
    assert (answer["returncode"], answer["success"]) == (3, False)


@pytest.mark.parametrize(
    ("command", "error", "essentials"),
    [
        ("rm -r .", ToolAuthError, ["'rm' is not allowed", "Allowed: cat"]),
        ("ech hi", ToolAuthError, ["Did you mean 'echo'?"]),
        ("/bin/echo hi", ToolAuthError, ["without its path"]),
        ("echo hi | sh", ToolValidationError, ["no shell", "'|'"]),
        ("echo hi && ls", ToolValidationError, ["'&&'"]),
        ("echo 'hi", ToolValidationError, ["cannot be split"]),
        (["echo", "a\0b"], ToolValidationError, ["NUL"]),
        ([""], ToolValidationError, ["empty"]),
        ([], ToolValidationError, ["command"]),
        (["echo", "x" * 90_000 * 30], PermanentToolError, ["could not be started", "argument list too long"]),
    ],
)
async def test_what_may_not_be_executed_is_said(command: Any, error: type[ToolError], essentials: list[str]) -> None:
    with pytest.raises(error) as caught:
        await shell(command)

    for essential in essentials:
        assert essential in str(caught.value)


@pytest.mark.parametrize("allowed", [None, []])
async def test_nothing_is_allowed_unless_the_config_lists_it(allowed: Any) -> None:
    with pytest.raises(ToolAuthError, match="not allowed") as caught:
        await shell(["echo"], config={"command_allowlist": allowed})

    assert "command_allowlist: [echo]" in str(caught.value)


async def test_a_program_that_is_not_installed_is_said() -> None:
    with pytest.raises(PermanentToolError, match="'no-such' is not installed"):
        await shell(["no-such"], config={"command_allowlist": ["no-such"]})


async def test_arguments_are_not_interpreted() -> None:
    assert (await shell(["echo", "$HOME", "*", "a;b", "|"]))["stdout"] == "$HOME * a;b |\n"
    assert (await shell('echo "a  b" $HOME'))["stdout"] == "a  b $HOME\n"


async def test_a_program_has_no_input() -> None:
    assert (await shell(["cat"]))["stdout"] == ""


async def test_long_output_is_cut_and_the_program_goes_on() -> None:
    answer = await shell(["sh", "-c", "yes | head -c 1000000; echo done >&2"], config={"capture_bytes": 10})

    assert (answer["stdout"], answer["truncated"], answer["exit_code"]) == ("y\ny\ny\ny\ny\n", True, 0)
    assert answer["stderr"] == "done\n"


async def test_a_timeout_ends_the_program_and_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; echo begun; wait"

    answer = await shell(["sh", "-c", script], timeout_ms=300)

    assert (answer["timed_out"], answer["stdout"]) == (True, "begun\n")
    assert answer["exit_code"] < 0
    child = int((tmp_path / "child").read_text())
    await until(lambda: not alive(child))
    with pytest.raises(ToolTimeoutError, match=r"longer than 0\.1 s"):
        await ExecuteCommandTool({"command_allowlist": ALLOWED, "timeout": 0.1}).invoke(
            {"command": ["sh", "-c", "sleep 60"], "timeout": 60}, None
        )


async def test_a_program_that_does_not_listen_to_sigterm_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_core.plugins.builtin.tool.processes._GRACE_S", 0.1)

    answer = await shell(["sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"], timeout_ms=200)

    assert (answer["timed_out"], answer["exit_code"]) == (True, -9)


async def test_cancelling_ends_the_program_and_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; wait"
    call = asyncio.create_task(shell(["sh", "-c", script]))
    await until(child.exists)
    begun = time.monotonic()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not alive(int(child.read_text())))
    assert time.monotonic() - begun < 5


async def test_a_child_that_is_left_behind_is_ended_with_its_parent(tmp_path: Path) -> None:
    begun = time.monotonic()

    answer = await shell(["sh", "-c", "sleep 60 & echo $!"])

    assert time.monotonic() - begun < 5
    await until(lambda: not alive(int(answer["stdout"])))


async def test_a_program_sees_nothing_of_the_worker_but_what_the_config_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS_SECRET", "hidden")
    monkeypatch.setenv("PASSED_ON", "yes")
    context = SimpleNamespace(state={})
    await SetEnvTool({"allowed": ["APP_*"]}).invoke({"key": "APP_MODE", "value": "session's"}, context)

    answer = await shell(["env"], config={"env_passthrough": ["PASSED_ON"]}, context=context, env={"EXTRA": "1"})

    variables = dict(line.split("=", 1) for line in answer["stdout"].splitlines())
    assert {"PATH", "PASSED_ON", "APP_MODE", "EXTRA"} <= variables.keys() <= {
        "PATH", "HOME", "LANG", "PASSED_ON", "APP_MODE", "EXTRA"
    }  # fmt: skip
    assert variables["APP_MODE"] == "session's"
    assert "APP_MODE" not in os.environ


STEERING = [
    "PATH",
    "LD_PRELOAD",
    "PYTHONPATH",
    "BASH_ENV",
    "GIT_SSH_COMMAND",
    "NODE_OPTIONS",
    "HOME",
    "XDG_CONFIG_HOME",
    "LESSOPEN",
    "TAR_OPTIONS",
    "RIPGREP_CONFIG_PATH",
    "OPENSSL_CONF",
    "KUBECONFIG",
    "CARGO_BUILD_RUSTC_WRAPPER",
]


@pytest.mark.parametrize("name", STEERING)
async def test_a_model_does_not_make_another_program_of_it(name: str) -> None:
    with pytest.raises(ToolAuthError, match=name):
        await shell(["env"], env={name: "/tmp/x"})
    with pytest.raises(ToolAuthError, match=name):
        await SetEnvTool({"allowed": ["*"]}).invoke({"key": name, "value": "x"}, SimpleNamespace(state={}))


async def test_a_variable_that_no_program_can_have_is_said() -> None:
    with pytest.raises(PermanentToolError, match="could not be started"):
        await shell(["env"], env={"A=B": "x"})


async def test_a_directory_that_is_not_there_is_the_configs_mistake(tmp_path: Path) -> None:
    with pytest.raises(PermanentToolError, match="does not exist") as caught:
        await shell("pwd", config={"cwd": str(tmp_path / "gone")})
    assert "correct it in the tool's config" in str(caught.value)


async def test_programs_start_below_their_directory(tmp_path: Path) -> None:
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    config = {"cwd": str(tmp_path / "root")}

    assert (await shell("pwd", config=config, cwd="below"))["stdout"] == f"{tmp_path}/root/below\n"
    for path in ("..", "up", "/"):
        with pytest.raises(ToolAuthError, match="outside"):
            await shell("pwd", config=config, cwd=path)


def test_a_misspelled_allow_list_is_refused_rather_than_ignored() -> None:
    with pytest.raises(PluginConfigError, match=r"config\.command_allow_list: unknown field"):
        ShellExecTool({"command_allow_list": ["ls"]})


ENVIRONMENT = {
    "APP_MODE": "test",
    "APP_TOKEN": "t0ken",
    "APP_STORE": "redis://:pw@host/0",
    "APP_DBPASSWORD": "pa55word",
    "APP_MYSQL_PWD": "pa55word",
    "OTHER": "other",
}


@pytest.mark.parametrize(
    ("allowed", "readable"),
    [
        ([], []),
        (["OTHER"], ["OTHER"]),
        (["APP_*"], ["APP_MODE"]),
        (["*"], ["APP_MODE", "OTHER"]),
        (["APP_*", "APP_TOKEN", "APP_STORE"], ["APP_MODE", "APP_STORE", "APP_TOKEN"]),
    ],
)
async def test_a_variable_is_read_if_the_config_allows_it_and_a_secret_by_its_full_name_only(
    allowed: list[str], readable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, read = GetEnvTool({"allowed": allowed}), list[str]()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
        try:
            assert (await tool.invoke({"key": name}, None))["value"] == value
            read.append(name)
        except ToolAuthError as error:
            assert value not in str(error)  # noqa: PT017

    assert sorted(read) == readable


async def test_a_sessions_variables_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "process")
    one, other = SimpleNamespace(state={}), SimpleNamespace(state={})
    reading, writing = GetEnvTool({"allowed": ["MODE", "UNSET"]}), SetEnvTool({"allowed": ["MODE"]})

    await writing.invoke({"key": "MODE", "value": True}, one)

    assert await reading.invoke({"key": "MODE"}, one) == {"key": "MODE", "value": "true", "exists": True}
    assert (await reading.invoke({"key": "MODE"}, other))["value"] == "process"
    assert await reading.invoke({"key": "UNSET", "default": "d"}, one) == {
        "key": "UNSET",
        "value": "d",
        "exists": False,
    }
