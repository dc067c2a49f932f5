"""The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1), made from the operations that are served. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from producer.gateway.operations import PATH_PARAMETERS, Answer, Operation
from producer.gateway.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{model}"
#: Problems that every operation may answer.
_ALWAYS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
#: Of operations that read a body.
_OF_A_BODY = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
_BODY = re.compile(r"\{(\w+)\}")


def document(operations: Iterable[Operation], *, release: str) -> dict[str, Any]:
    operations = list(operations)
    # In serialization mode, output_type is the JSON that travels, not a class.
    refs, schemas = models_json_schema([(model, "serialization") for model in _models(operations)], ref_template=_REF)
    references: dict[Any, Any] = {model: schema for (model, _), schema in refs.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Runlane", "version": release, "description": "Submit runs of agents and follow them."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(operations: Iterable[Operation]) -> Iterator[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {Problem: None}
    for operation in operations:
        contents = [operation.body, *(answer.content for answer in operation.answers.values())]
        found |= {content: None for content in contents if isinstance(content, type)}
    yield from found


def _operation(operation: Operation, references: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    problems = {*_ALWAYS, *operation.problems}
    problems |= {HTTPStatus.UNAUTHORIZED} if operation.scope else set()
    problems |= _OF_A_BODY if operation.body else set()
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{re.sub(r'[^a-z]+', '_', operation.path)}".rstrip("_"),
        "summary": operation.summary,
        "description": operation.description,
        "parameters": list(_parameters(operation)),
        "responses": {
            **{str(int(status)): _answer(answer, references) for status, answer in operation.answers.items()},
            **{str(int(status)): _problem(status, references) for status in sorted(problems)},
        },
        "security": [{"token": [operation.scope]}] if operation.scope else [],
    }
    if operation.body is not None:
        content = {"application/json": {"schema": references[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in _BODY.findall(operation.path):
        yield _parameter(name, "path", PATH_PARAMETERS[name], required=True)
    if operation.query is not None:
        for name, schema in operation.query.model_json_schema()["properties"].items():
            yield _parameter(name, "query", schema)
    for name, schema in operation.headers.items():
        yield _parameter(name, "header", schema)


def _parameter(name: str, place: str, schema: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    shape = {key: value for key, value in schema.items() if key not in ("description", "title")}
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": schema.get("description", ""),
        "schema": shape,
    }


def _answer(answer: Answer, references: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.content is not None:
        schema = references[answer.content] if isinstance(answer.content, type) else answer.content
        if answer.media_type == "text/event-stream":
            schema = _event(schema)
        described["content"] = {answer.media_type: {"schema": schema}}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return described


def _event(data: Mapping[str, Any]) -> dict[str, Any]:
    """What each event of a stream holds; its data is JSON text. ``stream.cut`` alone has no id."""
    fields = {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
    }
    return {"type": "object", "description": "Each event.", "properties": fields, "required": ["event", "data"]}


def _problem(status: HTTPStatus, references: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": status.phrase,
        "content": {MEDIA_TYPE: {"schema": references[Problem]}},
    }
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        described["headers"] = {
            "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
        }
    return described
