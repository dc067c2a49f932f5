"""What the product's code finds in the simulator instead of the machine: clocks, random ids, connections, threads."""

from __future__ import annotations

import asyncio
import random
import types
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

import runtime_core.clock
import runtime_core.store.connection
import workers.process
from tests.simulator.connections import SimulatedConnection, SimulatedSyncConnection
from tests.simulator.loop import SimulatedProcess, VirtualLoop, current_process
from tests.simulator.network import EPOCH_MS
from workers.partitions.renewal import Renewal
from workers.pool.greenlets import await_, run_in_greenlet

#: Any URL will do: where it leads is decided by the connection class.
REDIS_URL = "redis://simulated:6379/0"


class VirtualClocks:
    """Stands for the module ``time`` in runtime_core.clock."""

    CLOCK_BOOTTIME = 7

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        return (EPOCH_MS + round(self._loop.time() * 1000)) * 1_000_000

    def clock_gettime(self, _: int) -> float:
        return self._loop.time()


class _Interval:
    """Stands for the Event by which the renewal thread is told to stop, and on which it waits between its rounds."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self, seconds: float) -> bool:
        await_(asyncio.sleep(seconds))
        return self._set


class SimulatedRenewal(Renewal):
    """The renewal thread, on a greenlet."""

    def start(self) -> None:
        process = _this_process()
        self._stop = _Interval()  # type: ignore[assignment]
        process.start(run_in_greenlet(self._run), thread="renewal")

    def stop(self) -> None:
        self._stop.set()


def _exit_hung() -> None:
    """The simulated process exits, not the simulator."""
    _this_process().kill()


def _this_process() -> SimulatedProcess:
    process = current_process.get()
    assert process is not None
    return process


def _connect_sync(url: str, *, timeout: float) -> redis.Redis:
    pool = redis.ConnectionPool(
        connection_class=SimulatedSyncConnection,
        decode_responses=True,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


@contextmanager
def simulated(loop: VirtualLoop, seed: int) -> Generator[None]:
    """The environment of one history."""
    chance = random.Random(f"ids {seed}")
    random.seed(seed)  # redis-py's jitter
    connections: dict[Any, Any] = runtime_core.store.connection._CONNECTIONS
    replaced: list[tuple[Any, str, Any]] = [
        (runtime_core.clock, "time", VirtualClocks(loop)),
        (uuid, "os", types.SimpleNamespace(urandom=chance.randbytes)),
        (workers.process, "connect_sync", _connect_sync),
        (workers.process, "Renewal", SimulatedRenewal),
        (workers.process, "exit_hung", _exit_hung),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    real = connections[redis.asyncio.Connection]
    connections[redis.asyncio.Connection] = SimulatedConnection
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        connections[redis.asyncio.Connection] = real
