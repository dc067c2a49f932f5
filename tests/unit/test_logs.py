"""Logging: configured only where it was asked for; each line names its run, and no secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runtime_core import logs
from runtime_core.config.schema import LoggingConfig
from runtime_core.errors import ConfigError
from runtime_core.kernel.runtime import Runtime
from tests.unit.kernel_setup import config, plugin, request

logger = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The root logger as it was before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    theirs = ("httpx", "httpx2", "openagents.llm", "runtime_core.llm", "workers.llm", "producer.llm")
    for name in ("tests.logs", *theirs):
        logging.getLogger(name).setLevel(logging.NOTSET)


def configured(**fields: Any) -> None:
    logs.configure(LoggingConfig(auto_configure=True, **fields))


def lines(capsys: pytest.CaptureFixture[str], stream: str = "err") -> list[dict[str, Any]]:
    return [json.loads(line) for line in getattr(capsys.readouterr(), stream).splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("section", "environment", "asked"),
    [
        (None, {}, False),
        ({}, {}, False),
        ({"auto_configure": True}, {}, True),
        (None, {"RUNLANE_LOG_AUTOCONFIGURE": "1"}, True),
        (None, {"OPENAGENTS_LOG_AUTOCONFIGURE": "true"}, True),
        ({"auto_configure": True}, {"RUNLANE_LOG_AUTOCONFIGURE": "0"}, False),
        (None, {"RUNLANE_LOG_LEVEL": "DEBUG"}, False),
    ],
)
def test_logging_is_configured_only_if_asked(
    section: dict[str, Any] | None, environment: dict[str, str], asked: bool
) -> None:
    given = None if section is None else LoggingConfig(**section)
    assert (logs.asked_for(given, environment) is not None) is asked


def test_the_environment_wins_and_its_own_name_over_the_other() -> None:
    found = logs.asked_for(
        LoggingConfig(auto_configure=True, level="ERROR"),
        {
            "RUNLANE_LOG_LEVEL": "debug",
            "OPENAGENTS_LOG_LEVEL": "WARNING",
            "OPENAGENTS_LOG_LEVELS": "a.b=warning, c=ERROR",
            "RUNLANE_LOG_INCLUDE": "a, b",
            "RUNLANE_LOG_EXCLUDE": "a.c",
            "RUNLANE_LOG_REDACT": "pin",
            "RUNLANE_LOG_MAX_VALUE_LENGTH": "7",
            "RUNLANE_LOG_STREAM": "stdout",
            "RUNLANE_LOG_PRETTY": "yes",
        },
    )
    assert found is not None
    assert found.model_dump(exclude={"show_time", "show_path", "loguru_sinks"}) == {
        "auto_configure": True,
        "level": "DEBUG",
        "per_logger_levels": {"a.b": "WARNING", "c": "ERROR"},
        "pretty": True,
        "stream": "stdout",
        "include_prefixes": ["a", "b"],
        "exclude_prefixes": ["a.c"],
        "redact_keys": ["pin"],
        "max_value_length": 7,
    }


@pytest.mark.parametrize(
    ("name", "value"), [("LEVEL", "loud"), ("MAX_VALUE_LENGTH", "long"), ("LEVELS", "a:b"), ("STREAM", "file")]
)
def test_a_variable_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="RUNLANE_LOG_"):
        logs.asked_for(None, {"RUNLANE_LOG_AUTOCONFIGURE": "1", f"RUNLANE_LOG_{name}": value})


def test_a_runtime_configures_nothing_by_itself() -> None:
    before = list(logging.getLogger().handlers)
    Runtime.from_dict(config())
    assert logging.getLogger().handlers == before


def test_a_line_hides_secrets_and_cuts_what_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    configured(max_value_length=10, redact_keys=["api_key", "pin"])
    logger.info("called %s", "it", extra={"api_key": "sk-1", "body": "x" * 50, "nested": {"pin": 1, "ok": 2}})
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("called it", "info", "tests.logs")
    assert line["api_key"] == "***"
    assert line["nested"] == {"pin": "***", "ok": 2}
    assert line["body"].startswith("x" * 10 + "…")
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configured(max_value_length=10_000)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    (line,) = lines(capsys)
    assert "ValueError: no" in line["exception"]


def test_levels_and_prefixes_choose_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configured(
        level="WARNING",
        per_logger_levels={"tests.logs": "DEBUG"},
        include_prefixes=["tests"],
        exclude_prefixes=["tests.noise"],
        stream="stdout",
    )
    logger.debug("seen")
    logging.getLogger("tests.other").info("below the level")
    logging.getLogger("tests.noise").error("excluded")
    logging.getLogger("testsuite").error("not included")
    assert [line["event"] for line in lines(capsys, "out")] == ["seen"]


def test_the_urls_of_requests_are_logged_only_if_somebody_wants_them(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in ({}, {"per_logger_levels": {"httpx": "INFO"}}):
        configured(level="INFO", **wanted)
        logging.getLogger("httpx").info("GET http://host/?api_key=s3cret")
        assert bool(capsys.readouterr().err) is bool(wanted)
    configured(level="ERROR")
    logging.getLogger("httpx").warning("below the level")
    assert lines(capsys) == []


def test_a_file_of_the_openagents_sdk_chooses_our_lines_by_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    configured(include_prefixes=["openagents"], per_logger_levels={"openagents.llm": "WARNING"})

    logging.getLogger("openagents.pattern").info("theirs")
    logging.getLogger("runtime_core.kernel.runtime").info("ours")
    logging.getLogger("workers.process").info("ours, too")
    logging.getLogger("runtime_core.llm.retrying").info("quiet")
    logging.getLogger("another.library").info("not asked for")

    assert [line["event"] for line in lines(capsys)] == ["theirs", "ours", "ours, too"]


def test_configuring_again_replaces_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    configured(pretty=True, show_time=False, show_path=True)
    logger.warning("once")
    text = capsys.readouterr().err
    assert text.count("once") == 1
    assert "test_logs.py" in text


def test_sinks_of_another_library_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    configured(loguru_sinks=[{"target": "stderr"}])
    assert "no effect" in lines(capsys)[0]["event"]


class Talking:
    """A tool that logs, in a thread of its own."""

    def invoke(self, params: dict[str, Any], context: Any) -> str:
        logger.info("from the tool")
        return "said"


async def test_lines_of_a_run_carry_its_ids_wherever_they_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    tools = [{"id": "talk", "impl": "tests.unit.test_logs.Talking"}, {"id": "t", **plugin("ThreadTool")}]
    runtime = Runtime.from_dict(config(tools=tools) | {"logging": {"auto_configure": True, "level": "INFO"}})
    await asyncio.gather(
        *(runtime.execute(request("/tool talk x", session=name, run_id=f"run-{name}")) for name in ("a", "b"))
    )
    logger.info("outside")
    found = {line.get("run_id"): line for line in lines(capsys) if line["logger"] == "tests.logs"}
    assert set(found) == {"run-a", "run-b", None}
    assert (found["run-a"]["session_id"], found["run-a"]["attempt"]) == ("a", 1)
    await runtime.close()
