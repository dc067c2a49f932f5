"""Logging: configured only where it was asked for, by the agents file's ``logging.auto_configure`` or the environment.

Modules log with the standard library (``logging.getLogger(__name__)``); structlog renders what they log: a line of JSON
each, or for people. Each line says which run it belongs to; values of secret keys are hidden, long ones are cut.

Environment: ``RUNLANE_LOG_<name>`` with the names of ``VARIABLES``, or else ``OPENAGENTS_LOG_<name>``; it wins over
the agents file.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from pydantic import ValidationError

from runtime_core.config.problems import describe_problems
from runtime_core.config.schema import LoggingConfig
from runtime_core.errors import ConfigError
from runtime_core.redaction import redacted

#: Loggers of the openagents SDK, by which its files choose, are these here.
_SDK_LOGGERS, _SAME_HERE = "openagents", ("runtime_core", "workers", "producer")
_PREFIXES = ("RUNLANE_LOG_", "OPENAGENTS_LOG_")
#: Variable → field of LoggingConfig, and how its text is read.
VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "AUTOCONFIGURE": ("auto_configure", lambda text: text.lower() in ("1", "true", "yes", "on")),
    "LEVEL": ("level", str.upper),
    "LEVELS": ("per_logger_levels", lambda text: _pairs(text)),
    "PRETTY": ("pretty", lambda text: text.lower() in ("1", "true", "yes", "on")),
    "STREAM": ("stream", str.lower),
    "INCLUDE": ("include_prefixes", lambda text: _words(text)),
    "EXCLUDE": ("exclude_prefixes", lambda text: _words(text)),
    "REDACT": ("redact_keys", lambda text: _words(text)),
    "MAX_VALUE_LENGTH": ("max_value_length", int),
}
#: Loggers that say each request's whole URL at INFO: what stands in its query may be secret.
_TALKATIVE = ("httpx", "httpx2")
#: What is said of a line itself: it is neither redacted nor cut.
_OWN_KEYS = frozenset({"event", "level", "logger", "timestamp", "run_id", "session_id", "partition", "attempt"})


def asked_for(
    config: LoggingConfig | None = None, environment: Mapping[str, str] | None = None
) -> LoggingConfig | None:
    """How to log, None if nobody asked to have it configured. Raises ConfigError for a variable that cannot be read."""
    environment = os.environ if environment is None else environment
    changes: dict[str, Any] = {}
    for name, (field, read) in VARIABLES.items():
        text = next((found for prefix in _PREFIXES if (found := environment.get(f"{prefix}{name}", "").strip())), "")
        if text:
            try:
                changes[field] = read(text)
            except ValueError as error:
                raise ConfigError(f"RUNLANE_LOG_{name} is {text!r}: {error}", hint="correct the variable") from error
    try:
        merged = LoggingConfig.model_validate({**(config.model_dump() if config else {}), **changes})
    except ValidationError as error:
        raise ConfigError(
            f"RUNLANE_LOG_…: {describe_problems(error, LoggingConfig, root='logging')}", hint="correct the variable"
        ) from error
    return merged if merged.auto_configure else None


def configure(config: LoggingConfig) -> None:
    """Have the process log so; replaces what an earlier call has done, and what Celery has."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stdout if config.stream == "stdout" else sys.stderr)
    handler.setFormatter(_formatter(config))
    handler.addFilter(lambda record: _wanted(record.name, config))
    ours = [one for one in root.handlers if getattr(one, "runlane", False) or _is_celerys(one)]
    for one in ours:
        root.removeHandler(one)
    handler.runlane = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(config.level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name, level in config.per_logger_levels.items():
        for one in _loggers(name):
            logging.getLogger(one).setLevel(level)
    if config.loguru_sinks:
        logging.getLogger(__name__).warning("logging.loguru_sinks of the agents file have no effect: structlog logs")


def bound(**facts: Any) -> AbstractContextManager[Any]:
    """Lines that are logged in this context, and in tasks that begin in it, carry ``facts``."""
    return structlog.contextvars.bound_contextvars(**facts)


def bind(**facts: Any) -> None:
    """Lines of this task, and of tasks that begin in it, carry ``facts`` from now on."""
    structlog.contextvars.bind_contextvars(**facts)


def _formatter(config: LoggingConfig) -> logging.Formatter:
    def hide(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line.pop("message", None)  # another handler's formatter has left it in the record
        more = {key: value for key, value in line.items() if key not in _OWN_KEYS}
        line.update(redacted(more, keys=config.redact_keys, max_length=config.max_value_length))
        return line

    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]
    if config.show_time:
        before.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if config.show_path:
        parameter = structlog.processors.CallsiteParameter
        before.append(structlog.processors.CallsiteParameterAdder([parameter.PATHNAME, parameter.LINENO]))
    pretty = structlog.dev.ConsoleRenderer(colors=(sys.stdout if config.stream == "stdout" else sys.stderr).isatty())
    last = [pretty] if config.pretty else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide, *last]
    )


def _wanted(name: str, config: LoggingConfig) -> bool:
    def below(prefixes: list[str]) -> bool:
        names = [one for prefix in prefixes for one in _loggers(prefix)]
        return any(name == one or name.startswith(f"{one}.") for one in names)

    included = config.include_prefixes is None or below(config.include_prefixes)
    return included and not below(config.exclude_prefixes)


def _loggers(name: str) -> list[str]:
    """``name``, and what it is called here if it is of the SDK: ``openagents.llm`` is ``runtime_core.llm``, too."""
    first, dot, rest = name.partition(".")
    return [name, *(f"{here}{dot}{rest}" for here in _SAME_HERE)] if first == _SDK_LOGGERS else [name]


def _is_celerys(handler: logging.Handler) -> bool:
    return type(handler.formatter).__module__.startswith("celery.")


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _words(text)]
    if any(not sign for _, sign, _ in pairs):
        raise ValueError("write logger=LEVEL, and commas between several")
    return {name.strip(): level.strip().upper() for name, _, level in pairs}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
