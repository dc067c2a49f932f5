"""The gateway as an ASGI application: every operation with its checks before it and its problems after it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from producer.gateway import metrics
from producer.gateway.body import read_body
from producer.gateway.openapi import document
from producer.gateway.operations import Call, Operation
from producer.gateway.problems import STATUS_OF, answer, problem_of, unexpected
from producer.gateway.routes import agents, approvals, runs, service, sessions
from producer.gateway.service import Gateway
from runtime_core.errors import (
    InvalidInputError,
    MethodNotAllowed,
    RouteNotFound,
    RunlaneError,
    StoreUnavailable,
)
from runtime_core.suggestions import did_you_mean
from runtime_core.wording import in_words

logger = logging.getLogger(__name__)

OPERATIONS: tuple[Operation, ...] = (
    *runs.OPERATIONS,
    *approvals.OPERATIONS,
    *sessions.OPERATIONS,
    *agents.OPERATIONS,
    *service.OPERATIONS,
)
_PAGE = Path(__file__).with_name("page")
#: The page loads and asks nothing but this server.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(gateway: Gateway) -> ASGIApp:
    """The application over ``gateway``, which it closes when it is shut down."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await gateway.aclose()

    app = Starlette(
        routes=[*_routes(gateway, OPERATIONS), *_page()],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return _RawPaths(app)


class _RawPaths:
    """Routes match the path as it was sent: a session id may hold ``%2F``, which is no separator."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode("ascii", errors="replace")
        await self._app(scope, receive, send)


def _routes(gateway: Gateway, operations: Iterable[Operation]) -> list[BaseRoute]:
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    described = document(operations, release=version("runlane"))

    async def openapi(_: Request) -> Response:
        return JSONResponse(described)

    return [
        *(
            Route(path, _endpoint(gateway, methods), methods=list(methods), include_in_schema=False)
            for path, methods in by_path.items()
        ),
        Route("/openapi.json", openapi),
    ]


def _endpoint(gateway: Gateway, methods: dict[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = methods["GET" if request.method == "HEAD" else request.method]
        try:
            response = await operation.handler(await _check(gateway, operation, request))
        except Exception as error:
            response = _answer_to(error, operation)
        metrics.REQUESTS.labels(f"{operation.method} {operation.path}", response.status_code).inc()
        return response

    return endpoint


def _answer_to(error: Exception, operation: Operation) -> Response:
    if isinstance(error, StoreUnavailable):
        logger.warning("%s %s: %s", operation.method, operation.path, error)
    if isinstance(error, RunlaneError) and error.code in STATUS_OF:
        return answer(problem_of(error))
    reference = uuid.uuid4().hex[:12]
    logger.error("%s %s failed [%s]", operation.method, operation.path, reference, exc_info=error)
    return answer(unexpected(reference))


async def _check(gateway: Gateway, operation: Operation, request: Request) -> Call:
    """Who asks, whether they may, and for what. Raises RunlaneError."""
    caller = gateway.access.caller(request.headers) if operation.scope else gateway.access.nobody
    if operation.scope is not None:
        caller.require(operation.scope)
    settings = gateway.settings
    body = None
    if operation.body is not None:
        limit, within = settings.gateway_body_bytes, settings.gateway_request_s
        body = await read_body(request, operation.body, limit=limit, within_s=within)
    path = {name: _decoded(value) for name, value in request.path_params.items()}
    return Call(gateway=gateway, caller=caller, request=request, path=path, query=_query(operation, request), body=body)


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInputError("the path is not percent-encoded UTF-8", hint="encode it as UTF-8") from error


def _query(operation: Operation, request: Request) -> Any:
    """The query parameters as the operation's model."""
    try:
        pairs = parse_qsl(
            request.url.query, keep_blank_values=True, strict_parsing=bool(request.url.query), errors="strict"
        )
    except ValueError as error:
        raise InvalidInputError("the query is no name=value&…", hint="percent-encode it as UTF-8") from error
    names = [name for name, _ in pairs]
    known = list(operation.query.model_fields) if operation.query else []
    for name in names:
        if name not in known or names.count(name) > 1:
            raise InvalidInputError(
                f"query parameter {name!r} is {'given twice' if name in known else 'not known'}",
                hint=f"{did_you_mean(name, known)}There is: {', '.join(known) or '(none)'}",
            )
    if operation.query is None:
        return None
    try:
        return operation.query.model_validate(dict(pairs))
    except ValidationError as error:
        raise InvalidInputError(f"the query is not valid: {in_words(error)}", hint="see /openapi.json") from error


async def _refused(request: Request, error: Exception) -> Response:
    """What starlette itself refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        wrong = MethodNotAllowed(f"{request.url.path} does not take {request.method}", hint=f"it takes {allowed}")
        return answer(problem_of(wrong), {"Allow": allowed})
    known = [operation.path for operation in OPERATIONS]
    return answer(
        problem_of(
            RouteNotFound(
                f"there is nothing at {request.url.path[:200]}",
                hint=f"{did_you_mean(request.url.path, known)}/openapi.json lists what there is",
            )
        )
    )


def _page() -> list[BaseRoute]:
    async def index(_: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers=_PAGE_HEADERS)

    return [Route("/", index), Mount("/page", _PageFiles(directory=_PAGE))]


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_PAGE_HEADERS)
        return response
