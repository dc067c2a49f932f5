"""Operations on tool calls that wait for a person."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from producer.gateway.operations import Answer, Call, Operation
from producer.gateway.tokens import Scope
from runtime_core.contracts.host import Approval, Verdict


class Approvals(BaseModel):
    """The tool calls for which a run asked a person, oldest first; those without a decision wait."""

    approvals: list[Approval]


class Said(BaseModel):
    """A decision about a tool call."""

    model_config = ConfigDict(extra="forbid")

    decision: Verdict
    reason: Annotated[str, Field(max_length=2_000, description="What the model is told of a denial.")] = ""


async def get(call: Call) -> Response:
    found = Approvals(approvals=await call.client.approvals(call.path["run_id"]))
    return JSONResponse(found.model_dump(mode="json"))


async def decide(call: Call) -> Response:
    said: Said = call.body
    await call.client.approve(call.path["run_id"], call.path["call_id"], said.decision, reason=said.reason)
    return Response(status_code=HTTPStatus.NO_CONTENT)


OPERATIONS = (
    Operation(
        method="GET",
        path="/runs/{run_id}/approvals",
        summary="The tool calls for which a run asked a person",
        handler=get,
        scope=Scope.RUNS_READ,
        answers={HTTPStatus.OK: Answer(description="What it asked, with what was decided.", content=Approvals)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/approvals/{call_id}",
        summary="Decide about a tool call that waits",
        description="The first decision counts: later ones are refused with 409, as are those about a finished run.",
        handler=decide,
        scope=Scope.RUNS_WRITE,
        body=Said,
        answers={HTTPStatus.NO_CONTENT: Answer(description="It is decided.")},
        problems=(
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
        ),
    ),
)
