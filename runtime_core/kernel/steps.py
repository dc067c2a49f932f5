"""Durable steps as they are kept: one JSON object each. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from runtime_core.contracts.run import ErrorDetails, RunArtifact, RunUsage
from runtime_core.errors import CONTEXT_KEYS, ExecutionError, ToolError

#: Bytes of one step; a larger one is not kept.
_LARGEST_STEP = 4 * 1024 * 1024


class StepError(ExecutionError):
    """A step that cannot be kept, or cannot be read."""


class Note(BaseModel):
    """What one call brought: a ``value``, or the ``error`` of a tool that failed and that its pattern outlived."""

    model_config = ConfigDict(frozen=True)

    key: str
    value: Any = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    error: ErrorDetails | None = None
    #: That the tool itself added to the run.
    artifacts: list[RunArtifact] = Field(default_factory=list[RunArtifact])
    #: Of a request to a model.
    latency_ms: float | None = None


class Step(BaseModel):
    """``changes``: part of the context → its top-level fields that changed, as JSON text; None for one that went."""

    model_config = ConfigDict(frozen=True)

    number: int
    notes: list[Note]
    changes: dict[str, dict[str, str | None]] = Field(default_factory=dict[str, dict[str, str | None]])
    usage: RunUsage


def encode_step(step: Step) -> str:
    """Raises StepError for what JSON cannot hold, and for a step of more than 4 MiB."""
    try:
        text = to_json(step.model_dump(exclude={"number"}, exclude_defaults=True), inf_nan_mode="strings").decode()
    except (PydanticSerializationError, ValueError) as error:
        raise StepError(f"it is not JSON: {error}", hint="have tools return what JSON can hold") from error
    if len(text) > _LARGEST_STEP:
        raise StepError(f"it has {len(text)} bytes", hint="have tools return less, and keep the rest as an artifact")
    return text


def decode_step(number: int, delta: str) -> Step:
    """Raises StepError."""
    try:
        return Step.model_validate({"number": number, **json.loads(delta)})
    except (ValidationError, ValueError, TypeError) as error:
        raise StepError(
            f"the durable step {number} cannot be read: {str(error).splitlines()[0]}",
            hint="submit the run again under a new id; run the same release on all workers",
        ) from error


def tool_error(details: ErrorDetails) -> ToolError:
    """The ToolError that ``details`` describes, of the class that has its code."""
    pending: list[type[ToolError]] = [ToolError]
    kind = ToolError
    while pending:
        candidate = pending.pop()
        if candidate.code == details.code:
            kind = candidate
            break
        pending += candidate.__subclasses__()
    error = kind(details.message, hint=details.hint, docs_url=details.docs_url)
    return error.with_context(**{name: value for name, value in details.context.items() if name in CONTEXT_KEYS})


def fields_of(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Top-level field → JSON text; a field that JSON cannot hold is left out, it lives as long as its process."""
    fields: dict[str, str] = {}
    for name, value in mapping.items():
        try:
            fields[name] = json.dumps(value, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            continue
    return fields


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str | None]:
    """The fields that turn ``old`` into ``new``."""
    changed: dict[str, str | None] = {name: text for name, text in new.items() if old.get(name) != text}
    return changed | {name: None for name in old if name not in new}
