"""A request's body, bounded in bytes and time, as a model."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from runtime_core.errors import (
    InvalidInputError,
    RequestError,
    RequestTooLarge,
    RequestTooSlow,
    UnsupportedMediaType,
)
from runtime_core.wording import in_words

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], *, limit: int, within_s: float) -> Model:
    """Raises UnsupportedMediaType, RequestTooLarge, RequestTooSlow, InvalidInputError that names every wrong field."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"the body is {media_type or 'of no type'!r}", hint="send it with Content-Type: application/json"
        )
    try:
        async with asyncio.timeout(within_s):
            data = await _bounded(request, limit)
    except TimeoutError as error:
        raise RequestTooSlow(f"the body did not arrive within {within_s:g} s", hint="try again") from error
    except ClientDisconnect as error:
        raise RequestError("the client left while it sent the body") from error
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInputError(f"the body is not valid: {in_words(error)}", hint="see /openapi.json") from error


async def _bounded(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    parts: list[bytes] = []
    size = int(length) if length.isdigit() else 0
    if size <= limit:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                break
            parts.append(part)
    if size > limit:
        raise RequestTooLarge(
            f"the body has more than {limit} bytes", hint="send less, or raise RUNLANE_GATEWAY_BODY_BYTES"
        )
    return b"".join(parts)
