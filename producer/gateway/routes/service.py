"""Operations on the gateway itself: probes, metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from producer.gateway.operations import Answer, Call, Operation
from producer.gateway.tokens import Scope
from runtime_core.errors import ConfigError, StoreUnavailable


class Health(BaseModel):
    status: Literal["ok"] = "ok"


async def healthz(_: Call) -> Response:
    return JSONResponse(Health().model_dump())


async def readyz(call: Call) -> Response:
    """Runs can be submitted and followed: Redis answers, and holds a store of this release."""
    if call.gateway.closing.is_set():
        raise StoreUnavailable("the gateway is stopping")
    try:
        await call.gateway.client.check()
    except ConfigError as error:
        raise StoreUnavailable(f"the store is not ours: {error}") from error
    return JSONResponse(Health().model_dump())


async def metrics(call: Call) -> Response:
    encode, content_type = choose_encoder(call.request.headers.get("accept", ""))
    return Response(encode(REGISTRY), headers={"Content-Type": content_type})


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        summary="The process serves",
        handler=healthz,
        answers={HTTPStatus.OK: Answer(description="It does.", content=Health)},
    ),
    Operation(
        method="GET",
        path="/readyz",
        summary="Runs can be submitted and followed",
        handler=readyz,
        answers={HTTPStatus.OK: Answer(description="They can.", content=Health)},
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Metrics of the gateway, for Prometheus",
        handler=metrics,
        scope=Scope.METRICS,
        answers={
            HTTPStatus.OK: Answer(description="The metrics.", content={"type": "string"}, media_type="text/plain")
        },
    ),
)
