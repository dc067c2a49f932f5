"""The bytes of a run's Celery message (protocol version 2), built without Celery.

A record stores its doorbell once, with a placeholder for the delivery tag; a script that rings replaces the
placeholder by ``<run id>:<ring number>`` and pushes the text onto the partition's queue. It equals what
``app.send_task`` puts in Redis but for delivery_tag, origin and reply_to, which tests/contract pins against the
installed Celery. Building it here costs a twentieth of ``send_task``, needs no broker connection, and lets the
record and its doorbell appear in one script.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from runtime_core.ids import DEFAULT_TENANT, ScopedRunId

#: The Celery task that takes a doorbell.
EXECUTE_TASK: Final = "runlane.execute"
#: The Celery task by which any Celery client submits a run.
SUBMIT_TASK: Final = "runlane.submit"
#: Stands where a delivery tag belongs.
TAG_PLACEHOLDER: Final = "@TAG@"
#: What a script looks for, by plain find: a client's text inside the message may hold the bare placeholder but never
#: these quotes, since JSON escapes them.
TAG_PATTERN: Final = f'"delivery_tag": "{TAG_PLACEHOLDER}"'
#: Origin of a message that no Celery client sent; monitors show it as the sender.
_ORIGIN: Final = "runlane"
#: Characters of an agent or session id that are shown; Flower prints the whole text in a table cell.
_SHOWN_CHARACTERS: Final = 128
#: Persistent, as Celery's own default; the Redis transport stores it and takes no notice.
_DELIVERY_MODE: Final = 2
#: Part of every body: a doorbell has no callbacks, chain or chord.
_EMBED: Final[dict[str, None]] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def argsrepr(agent_id: str, session_id: str, input_length: int, tenant: str = DEFAULT_TENANT) -> str:
    """What monitors show as the task's arguments: whose run it is, and the length of its input instead of the input.

    ``input_length`` is in characters. Ids longer than 128 characters are cut; a tenant other than ``default`` is named.
    """
    shown: dict[str, str | int] = {"agent_id": _cut(agent_id), "session_id": _cut(session_id)}
    if tenant != DEFAULT_TENANT:
        shown["tenant"] = tenant
    shown["input_length"] = input_length
    return f"({shown!r},)"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def doorbell(run: ScopedRunId, *, queue: str, argsrepr: str) -> str:
    """The JSON text of the Celery message that names ``run``, holding TAG_PATTERN exactly once.

    ``queue`` is the partition's queue (store.keys.queue); ``argsrepr`` is what monitors show, see the function of that
    name. The text is ASCII whatever ``argsrepr`` holds.
    """
    return _MESSAGE % {
        "body": base64.b64encode((_BODY % {"run": _inside(run)}).encode()).decode(),
        "run": _inside(run),
        "argsrepr": _inside(argsrepr),
        "queue": _inside(queue),
    }


def _inside(text: str) -> str:
    """What stands between the quotes of a JSON string."""
    return json.dumps(text)[1:-1]


def _message() -> dict[str, Any]:
    """The message, with ``%(name)s`` where a doorbell differs from others."""
    headers: dict[str, Any] = {
        "lang": "py",
        "task": EXECUTE_TASK,
        "id": "%(run)s",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "%(run)s",
        "parent_id": None,
        "argsrepr": "%(argsrepr)s",
        "kwargsrepr": "{}",
        "origin": _ORIGIN,
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties: dict[str, Any] = {
        "correlation_id": "%(run)s",
        "reply_to": "",
        "argsrepr": "%(argsrepr)s",
        "delivery_mode": _DELIVERY_MODE,
        "delivery_info": {"exchange": "", "routing_key": "%(queue)s"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": TAG_PLACEHOLDER,
    }
    return {
        "body": "%(body)s",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }


#: A producer makes one for each run: the parts that are always the same are JSON already.
_MESSAGE: Final = json.dumps(_message())
_BODY: Final = json.dumps([["%(run)s"], {}, _EMBED])
