"""Fixtures of the integration tests: real servers beside the shared one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_core.embedded import find_redis_server
from tests.integration.celery_worker import wait_until


@pytest.fixture
def unix_socket_url(tmp_path: Path) -> Iterator[str]:
    """Database 1 of a Redis that listens on a unix socket only."""
    socket = tmp_path / "redis.sock"
    server = subprocess.Popen([find_redis_server(), "--port", "0", "--unixsocket", str(socket), "--save", ""])
    wait_until(socket.exists, "the server listens")
    yield f"unix://{socket}?db=1"
    server.kill()
    server.wait()
