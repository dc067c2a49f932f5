"""Deployment settings: what one process is told by its environment (``RUNLANE_*``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime_core.errors import ConfigError, InvalidInputError
from runtime_core.ids import DEFAULT_TENANT, check_name
from runtime_core.redaction import redacted_url

PREFIX = "RUNLANE_"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

_SCHEMES = ("redis", "rediss", "unix", "sentinel")


def _check_redis_url(url: str) -> str:
    scheme = url.partition("://")[0]
    if "://" not in url or scheme not in _SCHEMES:
        raise ValueError(f"not a Redis URL; it begins with {', '.join(f'{name}://' for name in _SCHEMES)}")
    try:
        parts = urlsplit(url)
        _ = parts.port if scheme != "sentinel" else None
    except ValueError as error:
        raise ValueError(
            "not a Redis URL; write redis://user:password@host:6379/0, specials percent-encoded"
        ) from error
    return url


def _check_tenant(value: str) -> str:
    try:
        return check_name("tenant", value)
    except InvalidInputError as error:
        raise ValueError(str(error)) from error


def _check_deps(value: str) -> str:
    for path in filter(None, value.replace(" ", "").split(",")):
        module, _, function = path.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), function]):
            raise ValueError(f"{path!r} is not a path; write module:function, and commas between several")
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Read from the environment; arguments win over it. Raises ConfigError that names the variable and the fix.

    ``repr`` and ``str`` never show a password.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    #: Broker and store are one Redis.
    redis_url: Annotated[str, AfterValidator(_check_redis_url)] = DEFAULT_REDIS_URL
    #: Partitions of the store; None adopts those that it has.
    partitions: Annotated[int, Field(ge=1, le=1024)] | None = None
    #: Path of the agents file.
    config: Path | None = None
    tenant: Annotated[str, AfterValidator(_check_tenant)] = DEFAULT_TENANT
    #: Functions, module:function with commas between them, that a request may name as the factory of its deps.
    deps: Annotated[str, AfterValidator(_check_deps)] = ""
    #: Runs that execute at once in one worker.
    concurrency: PositiveInt = 100
    #: Workers to wait for at start before the first partition is acquired.
    expect_workers: PositiveInt | None = None
    #: Seconds that runs get to end when the worker is told to stop.
    drain_grace_s: Annotated[float, Field(ge=0)] = 30.0
    #: Seconds that the runs of a partition get to end when it is to move to another worker.
    handover_grace_s: Annotated[float, Field(ge=0)] = 5.0
    #: Unfinished runs that one session may have; a submit beyond it is refused with QueueFull.
    session_queue_limit: PositiveInt = 1_000
    #: Unfinished runs that one partition may have.
    partition_queue_limit: PositiveInt = 100_000
    #: Seconds that runs get to end when the worker is told to stop at once (SIGQUIT): Celery's soft shutdown.
    soft_shutdown_s: Annotated[float, Field(ge=0)] = 0.0
    #: Seconds after which a run is asked to end; None for no limit.
    soft_time_limit_s: PositiveFloat | None = None
    #: Seconds after which a run is ended.
    hard_time_limit_s: PositiveFloat | None = None
    log_level: Annotated[Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"], BeforeValidator(_upper)] = "INFO"
    #: Where a worker serves Prometheus metrics; 0 takes a free port, None serves none. Each worker of a host needs
    #: a port of its own.
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    #: Where a worker answers the probes /live and /ready; may be the same as metrics_port.
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    #: Address of this machine on which both listen; 0.0.0.0 or :: for all. They ask for no password.
    http_host: str = "127.0.0.1"
    #: Sessions whose plugins one worker keeps warm.
    session_cache_size: PositiveInt = 1000
    #: Seconds without a run after which a session's plugins are closed.
    session_idle_s: PositiveFloat = 1800.0
    #: Where a worker sends OpenTelemetry spans: to a collector (OTEL_EXPORTER_OTLP_ENDPOINT, …) or into its log.
    tracing: Literal["off", "otlp", "console"] = "off"

    #: Address that the gateway listens on. Any but loopback needs tokens.
    gateway_host: str = "127.0.0.1"
    #: 0 takes a free port.
    gateway_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    #: File of the tokens that the gateway takes, see producer/gateway/tokens.py.
    gateway_tokens_file: Path | None = None
    #: The same, as JSON text; both may be given.
    gateway_tokens: str | None = None
    #: Bytes of a request's body.
    gateway_body_bytes: PositiveInt = 1024 * 1024
    #: Seconds that a request gets to arrive.
    gateway_request_s: PositiveFloat = 30.0
    #: Connections at once, streams at once, and streams of one tenant.
    gateway_connections: PositiveInt = 2_000
    gateway_streams: PositiveInt = 1_000
    gateway_tenant_streams: PositiveInt = 500
    #: Seconds without a chunk after which a stream sends a comment, so that nothing between closes it.
    gateway_heartbeat_s: PositiveFloat = 15.0
    #: Seconds for which a client may take nothing of its stream before it is cut.
    gateway_stall_s: PositiveFloat = 30.0

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            # Not chained: pydantic's own text would show the value, and with it a password.
            raise ConfigError(
                "\n".join(_problem(detail) for detail in error.errors(include_url=False)),
                hint="correct or unset the variable",
            ) from None

    @property
    def deps_factories(self) -> list[str]:
        """The paths in ``deps``."""
        return [path for path in self.deps.replace(" ", "").split(",") if path]

    @model_validator(mode="after")
    def _soft_before_hard(self) -> Self:
        soft, hard = self.soft_time_limit_s, self.hard_time_limit_s
        if soft is not None and hard is not None and soft >= hard:
            raise ValueError(
                f"RUNLANE_SOFT_TIME_LIMIT_S ({soft:g}) must be less than RUNLANE_HARD_TIME_LIMIT_S ({hard:g})"
            )
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redacted_url(value) if name == "redis_url" else value


def _problem(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if not name:
        return message
    value = detail["input"]
    shown = redacted_url(value) if isinstance(value, str) else value
    return f"{PREFIX}{name.upper()} is {shown!r}: {message[:1].lower()}{message[1:]}"
