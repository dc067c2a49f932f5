"""The embedded redis-server: private, complete, and gone with its owner."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import RunlaneError

OWNER = """
import sys
from runtime_core.embedded import EmbeddedRedis
server = EmbeddedRedis().start()
print(server.pid, server.port, flush=True)
sys.stdin.read()
"""


def wait_until_gone(pid: int, timeout_s: float = 10) -> None:
    """Block until process ``pid`` has ended, by its pidfd; raise TimeoutError."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([descriptor], [], [], timeout_s)[0]:
            raise TimeoutError(f"process {pid} is still there")
    finally:
        os.close(descriptor)


def is_connectable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunlaneError, match="directory for Redis"):
        EmbeddedRedis(directory=tmp_path / "file" / "inside").start()


def test_answers_inside_and_leaves_nothing_behind() -> None:
    with EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        directory, pid, port = str(client.config_get("dir")["dir"]), server.pid, server.port
        client.close()

    wait_until_gone(pid)
    assert not is_connectable(port)
    assert not Path(directory).exists()
    server.stop()


def test_two_at_once_share_nothing() -> None:
    with EmbeddedRedis() as one, EmbeddedRedis() as two:
        redis.Redis.from_url(one.url).set("whose", "one")

        assert one.port != two.port
        assert redis.Redis.from_url(two.url).get("whose") is None


def test_a_database_is_named_by_the_url() -> None:
    with EmbeddedRedis() as server:
        assert server.redis_url(3) == f"redis://127.0.0.1:{server.port}/3"


def test_a_directory_keeps_the_data_and_a_restart_keeps_the_port(tmp_path: Path) -> None:
    server = EmbeddedRedis(directory=tmp_path / "data")
    with server:
        url = server.url
        redis.Redis.from_url(url).set("kept", "yes")

    with server:
        assert server.url == url
        assert redis.Redis.from_url(url).get("kept") == b"yes"


def test_the_server_ends_when_its_owner_is_sigkilled() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pid, port = owner.stdout.readline().decode().split()
    assert is_connectable(int(port))

    owner.kill()
    owner.communicate()

    wait_until_gone(int(pid))
    assert not is_connectable(int(port))


def test_a_stopped_server_does_not_hang_stop() -> None:
    server = EmbeddedRedis().start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)

    server.stop()

    wait_until_gone(pid)


def test_a_server_that_died_can_be_stopped() -> None:
    server = EmbeddedRedis().start()
    os.kill(server.pid, signal.SIGKILL)

    server.stop()

    assert repr(server) == "<EmbeddedRedis stopped>"


def test_a_taken_port_is_said_with_the_fix() -> None:
    with EmbeddedRedis() as server, pytest.raises(RunlaneError, match="already in use") as caught:
        EmbeddedRedis(port=server.port).start()

    assert "another port" in str(caught.value)


def test_its_address_is_unknown_before_the_start() -> None:
    with pytest.raises(RunlaneError, match="not started"):
        _ = EmbeddedRedis().url
