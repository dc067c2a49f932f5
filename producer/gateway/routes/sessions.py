"""Operations on sessions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from producer.gateway.operations import Answer, Call, Operation, Query
from producer.gateway.tokens import Scope
from runtime_core.contracts.session import SessionArtifact


class MessagesQuery(Query):
    after: Annotated[int, Field(ge=0, le=2**31, description="Messages to pass over, from the oldest on.")] = 0
    limit: Annotated[int, Field(ge=1, le=1_000, description="Messages at the most.")] = 100


class Session(BaseModel):
    """Times are milliseconds since the epoch."""

    session_id: str
    #: Unfinished runs in the order of their execution, at most 100; and how many there are.
    run_ids: list[str]
    pending: int
    #: The run that executes, or whose code has not ended.
    live_run: str | None
    #: Version of the agents config that it is pinned to.
    config_version: int | None
    last_run_ms: int | None
    messages: int
    artifacts: int
    #: Names of the fields of its state.
    state_fields: list[str]
    #: Seconds until it is forgotten; null if it keeps nothing.
    expires_in_s: int | None


class Messages(BaseModel):
    """Messages of finished runs, oldest first."""

    messages: list[dict[str, Any]]
    #: What to ask for as ``after`` to go on behind them.
    next_after: int


class Artifacts(BaseModel):
    """Artifacts of finished runs, oldest first."""

    artifacts: list[SessionArtifact]


class Checkpoints(BaseModel):
    """Ids: those that were created by name, then ``<run id>:step:<number>``, for ``resume_from_checkpoint``."""

    checkpoints: list[str]


class Fork(BaseModel):
    """Where a session is copied to."""

    model_config = ConfigDict(extra="forbid")

    session_id: Annotated[str, Field(min_length=1, max_length=512, description="A session that keeps nothing yet.")]


async def get(call: Call) -> Response:
    story = await call.client.session(call.path["session_id"])
    session = Session(
        session_id=story.view.session_id,
        run_ids=list(story.run_ids),
        pending=story.view.pending,
        live_run=story.view.live_run,
        config_version=story.view.config_version,
        last_run_ms=story.view.last_run_ms,
        messages=story.messages,
        artifacts=story.artifacts,
        state_fields=list(story.state_fields),
        expires_in_s=story.expires_in_s,
    )
    return JSONResponse(session.model_dump(mode="json"))


async def delete(call: Call) -> Response:
    gateway, tenant, session_id = call.gateway, call.caller.tenant, call.path["session_id"]
    await call.client.session(session_id)
    await call.client.delete_session(session_id)
    # A worker that stays silent is about to lose its partitions, and the warm plugins of their sessions with them.
    await gateway.fleet.close_session(session_id, tenant=tenant)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def messages(call: Call) -> Response:
    session_id, query = call.path["session_id"], call.query
    found = await call.client.messages(session_id, after=query.after, limit=query.limit)
    if not found:
        await call.client.session(session_id)
    page = Messages(messages=found, next_after=query.after + len(found))
    return JSONResponse(page.model_dump(mode="json"))


async def artifacts(call: Call) -> Response:
    session_id = call.path["session_id"]
    found = Artifacts(artifacts=await call.client.artifacts(session_id))
    if not found.artifacts:
        await call.client.session(session_id)
    return JSONResponse(found.model_dump(mode="json"))


async def checkpoints(call: Call) -> Response:
    session_id = call.path["session_id"]
    found = Checkpoints(checkpoints=await call.client.checkpoints(session_id))
    if not found.checkpoints:
        await call.client.session(session_id)
    return JSONResponse(found.model_dump(mode="json"))


async def fork(call: Call) -> Response:
    target: str = call.body.session_id
    await call.client.fork_session(call.path["session_id"], target)
    return Response(status_code=HTTPStatus.CREATED, headers={"Location": f"/sessions/{quote(target, safe='')}"})


OPERATIONS = (
    Operation(
        method="GET",
        path="/sessions/{session_id}",
        summary="What is known of a session",
        handler=get,
        scope=Scope.SESSIONS_READ,
        answers={HTTPStatus.OK: Answer(description="The session.", content=Session)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="DELETE",
        path="/sessions/{session_id}",
        summary="Forget a session: its transcript, state, artifacts and warm plugins",
        description="Refused while it has an unfinished run. Records of its runs stay. A run that is submitted after"
        " the answer starts with nothing.",
        handler=delete,
        scope=Scope.SESSIONS_WRITE,
        answers={HTTPStatus.NO_CONTENT: Answer(description="It is forgotten.")},
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        method="GET",
        path="/sessions/{session_id}/messages",
        summary="The transcript of a session",
        handler=messages,
        scope=Scope.SESSIONS_READ,
        query=MessagesQuery,
        answers={HTTPStatus.OK: Answer(description="A page of it.", content=Messages)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/sessions/{session_id}/artifacts",
        summary="The artifacts of a session",
        handler=artifacts,
        scope=Scope.SESSIONS_READ,
        answers={HTTPStatus.OK: Answer(description="All of them.", content=Artifacts)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/sessions/{session_id}/checkpoints",
        summary="The checkpoints of a session",
        handler=checkpoints,
        scope=Scope.SESSIONS_READ,
        answers={HTTPStatus.OK: Answer(description="Their ids.", content=Checkpoints)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="POST",
        path="/sessions/{session_id}/fork",
        summary="Copy a session",
        description="What finished runs left. Neither session sees what is written to the other later. Refused with 409"
        " if the target keeps something or has an unfinished run.",
        handler=fork,
        scope=Scope.SESSIONS_WRITE,
        body=Fork,
        answers={HTTPStatus.CREATED: Answer(description="It is copied.", headers={"Location": "Path of the copy."})},
        problems=(
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
        ),
    ),
)
