"""How Celery is told about the Redis that is broker and store: settings for every process that uses its queues."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

#: For ``app.conf.broker_transport_options``, of workers and of every other process that uses the same queues.
TRANSPORT_OPTIONS: Final[dict[str, Any]] = {
    # Seconds after which a submission that a worker took and did not acknowledge is delivered again.
    "visibility_timeout": 60,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # A worker killed while it restores holds this lock; kombu's 300 s would outlast the visibility timeout.
    "unacked_mutex_expire": 30,
    # One list a queue, named as the queue: scripts push doorbells onto it.
    "priority_steps": [0],
    "queue_order_strategy": "round_robin",
    # Redis that does not answer is an error after so many seconds, not a hub that stands still.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def broker_settings(redis_url: str) -> dict[str, Any]:
    """Celery's settings ``broker_*`` for the Redis at ``redis_url``, a URL as redis-py takes it.

    ``unix:///path?db=1`` becomes kombu's ``redis+socket:///path?virtual_host=1``. ``rediss://`` verifies the server's
    certificate unless the URL says otherwise (``ssl_cert_reqs=none``); kombu's own default is not to.
    """
    settings: dict[str, Any] = {"broker_url": redis_url, "broker_transport_options": dict(TRANSPORT_OPTIONS)}
    parts = urlsplit(redis_url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        if "db" in query:
            query["virtual_host"] = query.pop("db")
        settings["broker_url"] = f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}".removesuffix("?")
    elif parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        settings["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return settings
