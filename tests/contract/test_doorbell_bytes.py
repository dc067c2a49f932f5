"""A doorbell is what the installed Celery would send: a Celery that changes its message fails here, not in a fleet."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import Celery
from kombu.entity import Queue

from runtime_core.doorbell import EXECUTE_TASK, TAG_PATTERN, argsrepr, doorbell
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys

#: The fields that Celery fills with the identity of the sending process or of the delivery.
OWN_FIELDS = (("headers", "origin"), ("properties", "reply_to"), ("properties", "delivery_tag"))


def sent_by_celery(run: str, queue: str, shown: str) -> dict[str, Any]:
    app = Celery("contract", broker="memory://", set_as_current=False)
    app.conf.task_queues = [Queue(queue, no_ack=True)]
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.send_task(
            EXECUTE_TASK, args=[run], task_id=run, queue=queue, argsrepr=shown, ignore_result=True, producer=producer
        )
        return json.loads(json.dumps(connection.default_channel._get(queue)))


def without_own_fields(message: dict[str, Any]) -> dict[str, Any]:
    for section, field in OWN_FIELDS:
        assert isinstance(message[section].pop(field), str)
    return message


@pytest.mark.parametrize("run", ["r1", "acme/6f0d3c6e:x"])
@pytest.mark.parametrize("shown", [argsrepr("assistant", "s1", 12), argsrepr("ä", "日 \"'@TAG@", 0, "acme")])
def test_a_doorbell_equals_the_message_that_celery_sends(run: str, shown: str) -> None:
    queue = keys.queue(7)
    ours = json.loads(doorbell(ScopedRunId(run), queue=queue, argsrepr=shown))
    theirs = sent_by_celery(run, queue, shown)
    assert base64.b64decode(ours["body"]) == base64.b64decode(theirs["body"])
    assert without_own_fields(ours) == without_own_fields(theirs)


def test_fields_come_in_celerys_order() -> None:
    ours = json.loads(doorbell(ScopedRunId("r"), queue="runs.p0001", argsrepr="()"))
    theirs = sent_by_celery("r", "runs.p0001", "()")
    assert [*ours, *ours["headers"], *ours["properties"]] == [*theirs, *theirs["headers"], *theirs["properties"]]


@pytest.mark.parametrize("session_id", ["s1", TAG_PATTERN, '\\"delivery_tag": "@TAG@"', "@TAG@", "\ud800", "%1%0"])
def test_the_tags_pattern_stands_exactly_once_whatever_a_client_names_its_session(session_id: str) -> None:
    text = doorbell(ScopedRunId("r"), queue="runs.p0001", argsrepr=argsrepr(session_id, session_id, 3))
    assert text.count(TAG_PATTERN) == 1
    assert text.isascii()
    rung = json.loads(text.replace(TAG_PATTERN, '"delivery_tag": "r:1"'))
    assert rung["properties"]["delivery_tag"] == "r:1"


def test_argsrepr_shows_whose_run_it_is_and_not_what_was_said() -> None:
    assert argsrepr("a", "s", 12) == "({'agent_id': 'a', 'session_id': 's', 'input_length': 12},)"
    assert "'tenant': 'acme'" in argsrepr("a", "s", 12, "acme")
    assert len(argsrepr("a" * 5000, "s" * 512, 12)) < 400
