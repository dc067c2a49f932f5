"""Deployment settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_core.config.settings import Settings
from runtime_core.errors import ConfigError
from runtime_core.redaction import redacted_url


def test_defaults_suit_a_development_machine() -> None:
    settings = Settings()

    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.partitions is None
    assert settings.concurrency == 100


def test_variables_are_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNLANE_PARTITIONS", "128")
    monkeypatch.setenv("RUNLANE_CONFIG", "agents.yaml")
    monkeypatch.setenv("RUNLANE_LOG_LEVEL", "debug")
    monkeypatch.setenv("RUNLANE_EXPECT_WORKERS", "")

    settings = Settings(partitions=16)

    assert settings.partitions == 16
    assert settings.config == Path("agents.yaml")
    assert settings.log_level == "DEBUG"
    assert settings.expect_workers is None


@pytest.mark.parametrize(
    ("variable", "value", "essential"),
    [
        ("RUNLANE_PARTITIONS", "1025", "less than or equal to 1024"),
        ("RUNLANE_PARTITIONS", "many", "valid integer"),
        ("RUNLANE_REDIS_URL", "localhost:6379", "redis://"),
        ("RUNLANE_REDIS_URL", "redis://h:port/0", "not a Redis URL"),
        ("RUNLANE_TENANT", "a/b", "tenant 'a/b' is not valid"),
        ("RUNLANE_CONCURRENCY", "0", "greater than 0"),
        ("RUNLANE_LOG_LEVEL", "loud", "'WARNING'"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, essential: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError) as caught:
        Settings()

    assert variable in str(caught.value)
    assert essential in str(caught.value)


def test_a_soft_limit_is_below_the_hard_one() -> None:
    with pytest.raises(ConfigError, match="RUNLANE_SOFT_TIME_LIMIT_S"):
        Settings(soft_time_limit_s=20, hard_time_limit_s=10)


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(redis_url="redis://user:s3cret@host:6379/0")
    assert "s3cret" not in repr(settings) + str(settings)

    monkeypatch.setenv("RUNLANE_REDIS_URL", "http://user:s3cret@host/0")
    with pytest.raises(ConfigError) as caught:
        Settings()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host/0", "redis://host/0"),
        ("redis://:pw@host/0", "redis://:***@host/0"),
        ("rediss://u:p%40w@host:1/0", "rediss://u:***@host:1/0"),
        ("redis://u:p@w@host/0", "redis://u:***@host/0"),
        ("redis://u:p/w@host/0", "redis://u:***@host/0"),
        ("unix:///run/redis.sock?db=1&password=pw", "unix:///run/redis.sock?db=1&password=***"),
    ],
)
def test_redacted_url(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
