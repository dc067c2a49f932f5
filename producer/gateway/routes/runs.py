"""Operations on runs."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from producer.cursors import CURSOR_PATTERN, read_cursor
from producer.gateway import metrics
from producer.gateway.operations import Answer, Call, Operation, Query
from producer.gateway.sse import HEADERS, EventStream, StreamEnd, left
from producer.gateway.tokens import Scope
from producer.handle import RunHandle
from producer.relay import check_cursor
from runtime_core.contracts.run import RunRecord, RunRequest, RunState
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import InvalidInputError, RunlaneError
from runtime_core.ids import idempotent_run_id
from runtime_core.store.runs import CancelOutcome
from runtime_core.tracing import carrying

logger = logging.getLogger(__name__)

#: Seconds that POST /runs waits for a result at the most: proxies end longer requests.
LONGEST_WAIT_S = 60

OnDisconnect = Annotated[
    Literal["continue", "cancel"],
    Field(description="What happens to the run if the client leaves: it goes on, or is cancelled (scope runs:write)."),
]


class SubmitQuery(Query):
    wait: Annotated[
        float, Field(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for the result; 0 answers at once.")
    ] = 0
    on_disconnect: OnDisconnect = "continue"


class StreamQuery(Query):
    after: Annotated[
        str,
        Field(
            description="The id of the last event held; Last-Event-ID wins over it.",
            json_schema_extra={"pattern": CURSOR_PATTERN},
        ),
    ] = "0"
    children: Annotated[bool, Field(description="Chunks of child runs, too.")] = False
    on_disconnect: OnDisconnect = "continue"


class Submitted(BaseModel):
    """A run that was accepted. Each of these is followed at ``Location``."""

    run_id: str
    session_id: str
    agent_id: str
    #: False: the same run had been submitted before.
    created: bool


class Cancelled(BaseModel):
    """``cancelled``: it had not started. ``cancelling``: it executes and is being stopped. ``finished``: too late."""

    run_id: str
    outcome: CancelOutcome


async def submit(call: Call) -> Response:
    request = _own_run(call, call.body)
    handle = await call.client.submit(request)
    location = {"Location": f"/runs/{quote(request.run_id)}"}
    if call.query.wait and (record := await _finished_in_time(call, handle)):
        return JSONResponse(record.model_dump(mode="json"), headers=location)
    accepted = Submitted(
        run_id=request.run_id, session_id=request.session_id, agent_id=request.agent_id, created=bool(handle.created)
    )
    return JSONResponse(accepted.model_dump(mode="json"), HTTPStatus.ACCEPTED, location)


def _own_run(call: Call, request: RunRequest) -> RunRequest:
    """The request with the run id of its idempotency key, in its client's trace. Raises InvalidInputError."""
    ours = [name for name in request.context_hints if name.startswith("__")]
    if ours:
        raise InvalidInputError(
            f"context_hints hold {', '.join(map(repr, ours))}", hint="names that begin with __ are Runlane's own"
        )
    headers = call.request.headers
    request = carrying(request, {name: headers[name] for name in ("traceparent", "tracestate") if name in headers})
    key = headers.get("idempotency-key")
    if key is None:
        return request
    if not (1 <= len(key) <= 255 and all("!" <= character <= "~" for character in key)):
        raise InvalidInputError("Idempotency-Key is not valid", hint="it is 1 to 255 visible characters of ASCII")
    if "run_id" in request.model_fields_set:
        raise InvalidInputError(
            "the request has both an Idempotency-Key and a run_id", hint="send one of them: the key becomes the run id"
        )
    return request.model_copy(update={"run_id": idempotent_run_id(call.caller.tenant, key)})


async def _finished_in_time(call: Call, handle: RunHandle) -> RunRecord | None:
    """Its record, if it ends while its client waits. It was accepted: a wait that fails is no failed request."""
    result = asyncio.create_task(handle.result(timeout=call.query.wait))
    leaving = asyncio.create_task(left(call.request.receive))
    closing = asyncio.create_task(call.gateway.closing.wait())
    try:
        await asyncio.wait({result, leaving, closing}, return_when=asyncio.FIRST_COMPLETED)
        if result.done() and result.exception() is None:
            return await handle.get()
        if not result.done() and leaving.done() and call.query.on_disconnect == "cancel":
            await handle.cancel()
    except RunlaneError as error:
        logger.warning("the record of run %s cannot be read now: %s", handle.run_id, error)
    finally:
        for task in (result, leaving, closing):
            task.cancel()
        await asyncio.gather(result, leaving, closing, return_exceptions=True)
    return None


async def get(call: Call) -> Response:
    return JSONResponse((await call.client.get(call.path["run_id"])).model_dump(mode="json"))


async def cancel(call: Call) -> Response:
    cancelled = Cancelled(run_id=call.path["run_id"], outcome=await call.client.cancel(call.path["run_id"]))
    return JSONResponse(cancelled.model_dump(mode="json"))


async def stream(call: Call) -> Response:
    gateway, tenant, run_id = call.gateway, call.caller.tenant, call.path["run_id"]
    if call.query.on_disconnect == "cancel":
        call.caller.require(Scope.RUNS_WRITE)
    after = call.request.headers.get("last-event-id") or call.query.after
    own = read_cursor(after).own
    record = await call.client.get(run_id)
    check_cursor(own, record)
    if record.state is RunState.FINISHED and own == record.sequence:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if call.request.method == "HEAD":
        return Response(headers=HEADERS)
    gateway.streams.take(tenant)
    metrics.STREAMS.labels("resumed" if own else "new").inc()

    async def ended(how: StreamEnd) -> None:
        gateway.streams.give_back(tenant)
        if how is StreamEnd.LEFT and call.query.on_disconnect == "cancel":
            try:
                await call.client.cancel(run_id)
            except RunlaneError as error:
                logger.warning("run %s is not cancelled though its client left: %s", run_id, error)

    return EventStream(
        call.client._run(run_id, record.partition).chunk_frames(after=after, children=call.query.children),
        label=f"run {run_id}",
        heartbeat_s=gateway.settings.gateway_heartbeat_s,
        stall_s=gateway.settings.gateway_stall_s,
        closing=gateway.closing,
        allowed=lambda: gateway.access.still_allows(call.request.headers, call.caller, Scope.RUNS_READ),
        on_end=ended,
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/runs",
        summary="Submit a run",
        description="The same run id, or Idempotency-Key, again is the same run while its record lives: until 24 hours"
        " after its end.",
        handler=submit,
        scope=Scope.RUNS_WRITE,
        query=SubmitQuery,
        body=RunRequest,
        headers={
            "Idempotency-Key": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "pattern": "^[!-~]+$",
                "description": "Becomes the run id; in place of run_id.",
            }
        },
        answers={
            HTTPStatus.OK: Answer(
                description="It finished within `wait`.", content=RunRecord, headers={"Location": "The run."}
            ),
            HTTPStatus.ACCEPTED: Answer(
                description="It was accepted.", content=Submitted, headers={"Location": "The run."}
            ),
        },
        problems=(
            HTTPStatus.CONFLICT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ),
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}",
        summary="What is known of a run now, with its result if it has one",
        handler=get,
        scope=Scope.RUNS_READ,
        answers={HTTPStatus.OK: Answer(description="Its record.", content=RunRecord)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}/stream",
        summary="Follow a run: its chunks as Server-Sent Events",
        description="Each event has the chunk's cursor as id, its kind as event, and the chunk as data. After"
        " run.finished the response ends, and a client that comes back gets 204. A stream that the gateway has to end"
        " earlier says so in an event stream.cut {reason}.",
        handler=stream,
        scope=Scope.RUNS_READ,
        query=StreamQuery,
        headers={
            "Last-Event-ID": {
                "type": "string",
                "pattern": CURSOR_PATTERN,
                "description": "The id of the last event held.",
            }
        },
        answers={
            HTTPStatus.OK: Answer(description="The chunks.", content=RunStreamChunk, media_type="text/event-stream"),
            HTTPStatus.NO_CONTENT: Answer(description="The client holds everything: the run has finished."),
        },
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/cancel",
        summary="Cancel a run, queued or running, and its children",
        handler=cancel,
        scope=Scope.RUNS_WRITE,
        answers={HTTPStatus.OK: Answer(description="What that met.", content=Cancelled)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
)
