"""The frame: one event of one run on the wire, in the log and on pub/sub alike. One JSON object:

| field | content |
|---|---|
| v | version of this format, 1 |
| logged | true: it has a sequence of its own, is in the log, and projects to a chunk; false: live only |
| sequence | a logged frame's own number, dense per run from 1; otherwise the last one given out |
| attempt | the attempt that emitted it; 0 before the first |
| event | name, see events/taxonomy.py |
| timestamp_ms | milliseconds since the epoch |
| config_version | the agents config the session is pinned to, null before its first admit |
| ids | {run_id, session_id, agent_id, parent_run_id} |
| payload | the event's own object; of ``run.finished``: {stop_reason, result} |
| stored | only of a payload too large to travel: its bytes. It stands once in the store then, beside the log or as
  the result of the run's record, and ``payload`` holds its short fields |

``store/lua/_prelude.lua`` composes the same object for the few frames that scripts append (run.queued, run.started,
run.interrupted, and the end of a run that no attempt ends); a contract test holds the two together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Self

from pydantic_core import PydanticSerializationError, from_json, to_json

from runtime_core.redaction import redacted

if TYPE_CHECKING:
    from runtime_core.contracts.run import RunRequest

VERSION = 1
TERMINAL_EVENT = "run.finished"
#: Bytes of a payload beyond which it is stored once, and fetched by whoever reads the frame.
INLINE_BYTES = 32 * 1024
#: Characters of a text that a frame shows of a stored payload.
SHORT_TEXT = 256
#: Characters of a text in a payload that is not JSON as it is.
_LONGEST_TEXT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class RunIds:
    """Whose event it is."""

    run_id: str
    session_id: str
    agent_id: str
    parent_run_id: str | None = None

    @classmethod
    def of(cls, request: RunRequest) -> Self:
        return cls(
            run_id=request.run_id,
            session_id=request.session_id,
            agent_id=request.agent_id,
            parent_run_id=request.parent_run_id,
        )

    @cached_property
    def as_json(self) -> bytes:
        return to_json(self.as_dict())

    def as_dict(self) -> dict[str, str | None]:
        return {
            "run_id": self.run_id,
            "session_id": self.session_id,
            "agent_id": self.agent_id,
            "parent_run_id": self.parent_run_id,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    logged: bool
    sequence: int
    attempt: int
    event: str
    timestamp_ms: int
    ids: RunIds
    config_version: int | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    #: Bytes of the payload, if it is kept in the store and not in this frame.
    stored: int | None = None

    @property
    def terminal(self) -> bool:
        return self.event == TERMINAL_EVENT and self.logged


def encode_payload(payload: dict[str, Any]) -> bytes:
    """JSON of an event's payload; what JSON cannot hold is replaced by its text, for an event never breaks a run."""
    try:
        return to_json(payload, fallback=str, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError):
        # Bytes, half a surrogate pair, a container within itself: slower, and cut below some levels.
        return to_json(redacted(payload, keys=(), max_length=_LONGEST_TEXT))


def short_fields(payload: dict[str, Any]) -> dict[str, Any]:
    """What a frame says itself of a payload that is stored: names, ids, numbers."""
    return {
        name: value
        for name, value in payload.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= SHORT_TEXT)
    }


def encode_frame(frame: Frame) -> bytes:
    return encode_frame_around(frame, encode_payload(frame.payload))


def encode_frame_around(frame: Frame, payload: bytes) -> bytes:
    """``frame`` with a payload that is JSON already."""
    stored = "" if frame.stored is None else f'"stored":{frame.stored},'
    head = (
        f'{{"v":{VERSION},"logged":{"true" if frame.logged else "false"},"sequence":{frame.sequence},'
        f'"attempt":{frame.attempt},"event":{_name(frame.event)},"timestamp_ms":{frame.timestamp_ms},'
        f'"config_version":{"null" if frame.config_version is None else frame.config_version},{stored}"ids":'
    )
    return b"".join((head.encode(), frame.ids.as_json, b',"payload":', payload, b"}"))


@lru_cache(maxsize=1024)
def _name(event: str) -> str:
    return json.dumps(event)


def decode_frame(data: bytes | str) -> Frame:
    """The frame in ``data``. Raises ValueError that names what is wrong, for anything but a frame of this version."""
    try:
        value = _object(data)
        if value["v"] != VERSION:
            raise ValueError(f"frame version {value['v']!r} is not {VERSION}: upgrade this process")
        return Frame(
            logged=value["logged"],
            sequence=value["sequence"],
            attempt=value["attempt"],
            event=value["event"],
            timestamp_ms=value["timestamp_ms"],
            config_version=value["config_version"],
            ids=RunIds(**value["ids"]),
            payload=value["payload"],
            stored=value.get("stored"),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a frame: {data[:120]!r}") from error


def _object(data: bytes | str) -> Any:
    """pydantic's parser takes a third of the time of Python's, and refuses what is nested deeper than 200 levels."""
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)
