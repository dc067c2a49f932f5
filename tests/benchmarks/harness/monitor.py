"""Counts the commands that clients send to a Redis, by name, with MONITOR (https://redis.io/commands/monitor)."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from types import TracebackType
from typing import Self

from runtime_core.store import scripts

#: ``+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"``; what scripts call comes from ``lua`` instead of an address.
_LINE = re.compile(rb'^\+[\d.]+ \[\d+ (?P<source>[^\]]+)\] "(?P<command>[^"]*)"(?: "(?P<argument>[^"]*)")?')
#: Scripts of the store are named by how it sends them, others (those of the worker's transport) by what they are.
_SCRIPTS = [path.name[:-4] for path in (files("runtime_core.store") / "lua").iterdir() if path.name[0] != "_"]
_FETCHES = [path for path in (files("workers") / "lua").iterdir() if path.name.endswith(".lua")]
#: Seconds for what was sent to be in the monitor's stream.
_SETTLE_S = 0.2


@dataclass
class Counted:
    #: Name → how often it was sent.
    commands: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0


class Monitor:
    """A context manager; ``counting`` may be used many times within."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._counted: Counter[str] = Counter()
        self._names = {scripts.sha(name).encode(): f"script {name}" for name in _SCRIPTS} | {
            hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest().encode(): f"script {path.name[:-4]}"
            for path in _FETCHES
        }
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._reader.start()
        time.sleep(_SETTLE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    @contextmanager
    def counting(self) -> Generator[Counted]:
        """What it gives is complete when the block has ended."""
        counted = Counted()
        time.sleep(_SETTLE_S)
        before, began = self._counted.copy(), time.monotonic()
        yield counted
        time.sleep(_SETTLE_S)
        counted.commands.update(self._counted - before)
        counted.seconds = time.monotonic() - began

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                if (name := name_of(line, self._names)) is not None:
                    self._counted[name] += 1


def name_of(line: bytes, scripts: Mapping[bytes, str]) -> str | None:
    """The command in a line of MONITOR; a script by its name in ``scripts``. None for what a script called itself."""
    found = _LINE.match(line)
    if found is None or found["source"] == b"lua":
        return None
    name = found["command"].decode().upper()
    return scripts.get(found["argument"] or b"", "script") if name == "EVALSHA" else name
