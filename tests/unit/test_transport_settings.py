"""Which transport and which Celery settings a Redis URL leads to; no server needed."""

from __future__ import annotations

import ssl

import pytest
from celery import Celery
from kombu.connection import Connection

from runtime_core.broker import TRANSPORT_OPTIONS, broker_settings
from workers.transport import Transport


def connection(redis_url: str) -> Connection:
    app = Celery("settings", set_as_current=False)
    app.conf.update(broker_settings(redis_url))
    return app.connection_for_read()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "redis://user:secret@localhost/3",
        "rediss://localhost/0",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_every_form_of_url_leads_to_our_transport(url: str) -> None:
    assert connection(url).transport_cls is not None
    assert connection(url).get_transport_cls() is Transport
    assert connection(url).clone().get_transport_cls() is Transport


def test_a_unix_socket_is_written_as_kombu_wants_it() -> None:
    settings = broker_settings("unix:///run/redis.sock?db=2")
    assert settings["broker_url"] == "redis+socket:///run/redis.sock?virtual_host=2"
    assert broker_settings("unix:///run/redis.sock")["broker_url"] == "redis+socket:///run/redis.sock"


def test_tls_verifies_the_servers_certificate_unless_told_not_to() -> None:
    assert connection("rediss://localhost/0").ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert connection("rediss://localhost/0?ssl_cert_reqs=none").ssl == {"ssl_cert_reqs": ssl.CERT_NONE}
    authority = connection("rediss://localhost/0?ssl_ca_certs=/ca.pem").ssl
    assert isinstance(authority, dict)
    assert authority["ssl_ca_certs"] == "/ca.pem"
    assert authority.get("ssl_cert_reqs") != ssl.CERT_NONE


def test_options_are_a_copy_that_an_app_may_change() -> None:
    settings = broker_settings("redis://localhost/0")
    settings["broker_transport_options"]["visibility_timeout"] = 1
    assert TRANSPORT_OPTIONS["visibility_timeout"] == 60
