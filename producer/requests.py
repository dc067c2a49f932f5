"""From what callers pass to a valid RunRequest."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel, ValidationError

from runtime_core.contracts.run import RunBudget, RunRequest
from runtime_core.errors import InvalidInputError
from runtime_core.suggestions import did_you_mean
from runtime_core.tracing import SpanKind, carrying, span


class RequestFields(TypedDict, total=False):
    """The fields of a RunRequest as keywords; agent_id, session_id and input_text are required."""

    agent_id: str
    session_id: str
    input_text: str
    run_id: str
    parent_run_id: str | None
    metadata: dict[str, Any]
    context_hints: dict[str, Any]
    budget: RunBudget | None
    deps: Any
    output_type: type[BaseModel] | dict[str, Any] | None
    durable: bool
    resume_from_checkpoint: str | None
    queue_deadline_ms: int | None
    stream: bool


def as_request(request: RunRequest | None, **fields: Unpack[RequestFields]) -> RunRequest:
    """``request`` itself, or one made of keywords. Raises InvalidInputError that names every wrong field."""
    if request is not None and fields:
        raise InvalidInputError(
            f"a request and {', '.join(fields)} were both given", hint="pass a RunRequest or its fields, not both"
        )
    try:
        if request is not None:
            return RunRequest.of(request)
        return RunRequest(**fields)  # pyright: ignore[reportCallIssue]  # pydantic says which fields are missing
    except ValidationError as error:
        raise invalid_request(error) from error


@contextmanager
def submit_span(request: RunRequest) -> Generator[RunRequest]:
    """The span of a submit, around the block; gives the request that carries it to the fleet."""
    with span(f"submit {request.agent_id}", kind=SpanKind.PRODUCER, runlane__run_id=request.run_id):
        yield carrying(request)


def budget_of(limits: Sequence[str]) -> RunBudget:
    """The budget that ``name=number`` texts describe. Raises InvalidInputError."""
    fields: dict[str, str] = {}
    for limit in limits:
        name, separator, number = limit.partition("=")
        if not separator:
            raise InvalidInputError(f"the limit {limit!r} has no number", hint="write it as max_tool_calls=5")
        if name not in RunBudget.model_fields:
            known = RunBudget.model_fields
            raise InvalidInputError(
                f"a budget has no limit {name!r}", hint=f"{did_you_mean(name, known)}Limits: {', '.join(known)}"
            )
        fields[name] = number
    try:
        return RunBudget.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        raise InvalidInputError(
            f"the limit {problem['loc'][0]} is {problem['input']!r}: {problem['msg']}", hint="give it a number"
        ) from error


def invalid_request(error: ValidationError) -> InvalidInputError:
    """pydantic's findings as one error of ours: ``session_id: Field required; …``."""
    problems = [
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}" if item["loc"] else item["msg"]
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return InvalidInputError(
        f"the run request is not valid: {'; '.join(problems)}",
        hint="a request needs agent_id, session_id and input_text",
    )
