"""What is wrong with this environment's settings."""

from __future__ import annotations

from collections.abc import Iterator

from producer.diagnosis.finding import Finding, warning
from producer.diagnosis.reading import Reading
from runtime_core.config.settings import PREFIX, Settings
from runtime_core.suggestions import near_match

#: How those begin that others read: the log, telemetry, and the agents file of `runlane up` and `demo`.
_OTHERS = tuple(f"{PREFIX}{name}" for name in ("LOG_", "OTEL_", "LLM_", "READER_ROOT"))


def check_environment(reading: Reading) -> Iterator[Finding]:
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in reading.variables:
        if not name.startswith(PREFIX) or name in known or name.startswith(_OTHERS):
            continue
        match = near_match(name, known)
        yield warning(
            "environment",
            f"{name} is no setting" + (f"; did you mean {match}?" if match else ""),
            why="unless your agents file names it, it has no effect, and what it was meant to set has its default",
            fix=f"rename it to {match}" if match else f"unset {name}",
        )
