"""Validation errors in words: where (``agents[0].tools[2].type``), what value, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runtime_core.redaction import redacted_url
from runtime_core.suggestions import did_you_mean

#: More problems than this are counted, not listed: the first ones are what a person reads.
_LISTED = 10
_VALUE_LENGTH = 80
#: Characters. The values of shorter environment variables are in too many texts by chance.
_SECRET_LENGTH = 6
_SECRET = re.compile(r"(api_?key|token|secret|password|authorization|credentials?|headers)$", re.IGNORECASE)


def field_path(location: Sequence[int | str], root: str = "") -> str:
    """``agents[0].tools[2].type`` for ``("agents", 0, "tools", 2, "type")``; ``root`` is put before it."""
    text = root
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe_problems(error: ValidationError, model: type[BaseModel], *, root: str = "") -> str:
    """One line per problem. Values of fields that look like secrets, or that may come from ``${VAR}``, are hidden."""
    details = error.errors(include_url=False)
    lines = [_describe(detail, model, root) for detail in details[:_LISTED]]
    if len(details) > _LISTED:
        lines.append(f"… and {len(details) - _LISTED} more")
    return "\n".join(lines)


def _describe(detail: ErrorDetails, model: type[BaseModel], root: str) -> str:
    location = detail["loc"]
    where = field_path(location, root) or "the root"
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            known = _fields_at(model, location[:-1])
            advice = did_you_mean(str(location[-1]), known)
            fields = f"Fields: {', '.join(known)}" if known else "Remove it"
            return f"{where}: unknown field{_shown(value, location)}. {advice}{fields}"
        case "missing":
            return f"{where}: required, but missing. Add it"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            return f"{where}: {message[:1].lower()}{message[1:]}{_shown(value, location)}"


def _shown(value: Any, location: Sequence[int | str]) -> str:
    """`` (value 5)``; nothing for a container, whose text would bury the message, and nothing for a secret."""
    if isinstance(value, Mapping | list | tuple | set):
        return ""
    if any(isinstance(part, str) and _SECRET.search(part) for part in location) or _from_environment(value):
        return " (value not shown)"
    text = repr(redacted_url(value) if isinstance(value, str) else value)
    return f" (value {text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + '…'})"


def _from_environment(value: Any) -> bool:
    """Whether the value of an environment variable is in this text."""
    return isinstance(value, str) and any(
        len(known) >= _SECRET_LENGTH and known in value for known in os.environ.values()
    )


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model that stands at ``location`` below ``model``."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as ``list[ToolRef]`` or ``LLMOptions | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
