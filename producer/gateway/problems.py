"""Errors as HTTP tells them: problem+json (RFC 9457) with our codes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from runtime_core.errors import RunlaneError, StoreUnavailable

MEDIA_TYPE: Final = "application/problem+json"
#: Code → status. A code that is not here is the server's fault: see ``unexpected``.
STATUS_OF: Final[Mapping[str, HTTPStatus]] = {
    "user.invalid_input": HTTPStatus.BAD_REQUEST,
    "user.agent_not_found": HTTPStatus.NOT_FOUND,
    "run.not_found": HTTPStatus.NOT_FOUND,
    "session.not_found": HTTPStatus.NOT_FOUND,
    "run.conflict": HTTPStatus.CONFLICT,
    "session.error": HTTPStatus.CONFLICT,
    "queue.full": HTTPStatus.TOO_MANY_REQUESTS,
    "gateway.too_many_streams": HTTPStatus.TOO_MANY_REQUESTS,
    "store.unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "fleet.unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "auth.unauthenticated": HTTPStatus.UNAUTHORIZED,
    "auth.forbidden": HTTPStatus.FORBIDDEN,
    "request.error": HTTPStatus.BAD_REQUEST,
    "request.route_not_found": HTTPStatus.NOT_FOUND,
    "request.method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "request.too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "request.too_slow": HTTPStatus.REQUEST_TIMEOUT,
    "request.unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
#: Statuses that say when to try again, and the milliseconds that they say if the error knows no better.
_TRY_AGAIN_MS: Final = {HTTPStatus.TOO_MANY_REQUESTS: 1_000, HTTPStatus.SERVICE_UNAVAILABLE: 2_000}


class Problem(BaseModel):
    """The body of every answer that is an error."""

    #: Names the kind of problem; it is ``code`` as a URN, and nothing to fetch.
    type: str
    title: str
    status: int
    detail: str
    #: One of the stable codes of runtime_core/errors.py.
    code: str
    #: What to do about it.
    hint: str | None = None
    retryable: bool = False
    #: Milliseconds after which to try again.
    retry_after_ms: int | None = None
    context: dict[str, Any] = Field(default_factory=dict)


def problem_of(error: RunlaneError) -> Problem:
    """The problem of an error with one of the codes above. Where Redis is, and why it refused, is not the caller's."""
    if isinstance(error, StoreUnavailable):
        error = StoreUnavailable("the store does not serve now", hint="try again; the gateway's log says why")
    status = STATUS_OF[error.code]
    after: int | None = getattr(error, "retry_after_ms", None)
    return Problem(
        type=f"urn:runlane:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        retryable=error.retryable,
        retry_after_ms=_TRY_AGAIN_MS.get(status) if after is None else after,
        context=error.context,
    )


def unexpected(reference: str) -> Problem:
    """Something broke; ``reference`` finds it in the log, which alone says what."""
    return Problem(
        type="urn:runlane:error.unknown",
        title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail="the gateway failed to answer",
        code="error.unknown",
        hint=f"its log says why: look for {reference}",
    )


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Retry-After is in whole seconds, rounded up."""
    said = dict(headers or {})
    if problem.retry_after_ms is not None:
        said["Retry-After"] = str(max(1, math.ceil(problem.retry_after_ms / 1000)))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        said["WWW-Authenticate"] = 'Bearer realm="runlane"'
    content = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, problem.status, said, media_type=MEDIA_TYPE)
