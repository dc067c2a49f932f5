"""What an operation of the HTTP API is, as data: routes and the OpenAPI document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from producer.gateway.access import Caller
from producer.gateway.tokens import Scope

if TYPE_CHECKING:
    from producer.client import AsyncClient
    from producer.gateway.service import Gateway


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request, checked: who asks, and what for."""

    gateway: Gateway
    caller: Caller
    request: Request
    #: Decoded, by name.
    path: Mapping[str, str]
    query: Any
    body: Any

    @property
    def client(self) -> AsyncClient:
        """What its tenant sees of runs and sessions, and nothing else."""
        return self.gateway.client.with_tenant(self.caller.tenant)


Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


class Query(BaseModel):
    """Base of query parameters; one that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    description: str
    #: A pydantic model, a JSON schema, or None for no body.
    content: type[BaseModel] | Mapping[str, Any] | None = None
    media_type: str = "application/json"
    #: Header → what it says.
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    method: str
    #: Parameters in braces are those of PATH_PARAMETERS.
    path: str
    summary: str
    handler: Handler
    answers: Mapping[HTTPStatus, Answer]
    #: Problems that it answers beside those that every operation has, and every one with a scope or a body.
    problems: tuple[HTTPStatus, ...] = ()
    #: None: open to everybody.
    scope: Scope | None = None
    description: str = ""
    query: type[Query] | None = None
    body: type[BaseModel] | None = None
    #: Request header → JSON schema with a description.
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


#: Parameter of a path → its JSON schema.
PATH_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "run_id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$", "description": "The run's id."},
    "call_id": {"type": "string", "minLength": 1, "maxLength": 128, "description": "The id of the tool call."},
    "session_id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "description": "The session's id, percent-encoded: any text of up to 512 bytes.",
    },
    "agent_id": {"type": "string", "minLength": 1, "maxLength": 128, "description": "The agent's id."},
}
