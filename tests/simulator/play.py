"""Plays a history to its end, and says whether every promise was kept."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

import redis
import yaml

from runtime_core.store.scripts import source
from tests.simulator.connections import use_network
from tests.simulator.environment import simulated
from tests.simulator.history import History
from tests.simulator.loop import Stuck, VirtualLoop
from tests.simulator.network import Network
from tests.simulator.oracle import Oracle

#: Every script of the store.
_SCRIPTS = sorted(
    script.name.removesuffix(".lua")
    for script in (files("runtime_core.store") / "lua").iterdir()
    if not script.name.startswith("_")
)
#: Virtual seconds that a whole history may take; one that takes longer is stuck.
_END = 900.0

_PLUGINS = "tests.simulator.agent"
_CONFIG = {
    "agents": [
        {
            "id": "a",
            "name": "A",
            "memory": {"type": "buffer"},
            "pattern": {"impl": f"{_PLUGINS}.JournalingAgent"},
            "tools": [
                {"id": "note", "impl": f"{_PLUGINS}.Note"},
                {"id": "ask", "impl": f"{_PLUGINS}.Ask"},
                {"id": "ask-soon", "impl": f"{_PLUGINS}.Ask", "config": {"timeout_ms": 1_500}},
            ],
        }
    ],
    "multi_agent": {"enabled": True, "max_delegation_depth": 4},
}

Scene = Callable[[History], Awaitable[None]]


class Outcome(StrEnum):
    HELD = "held"
    VIOLATED = "violated"
    #: The simulation itself, or the product outside of its promises, went wrong: an exception, a script error.
    CRASHED = "crashed"


@dataclass(kw_only=True)
class Report:
    outcome: Outcome
    story: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)


class _Unexpected(logging.Handler):
    """What the product logs with a traceback is an exception that nobody expected."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(logging.ERROR)
        self._oracle = oracle

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._oracle.give_up(f"{record.name} logged {record.getMessage()}: {record.exc_info[1]!r}")


def play(scene: Scene, seed: int, server: redis.Redis, *, partitions: int = 4, trace: bool = False) -> Report:
    """Play one history to its end and judge it."""
    server.flushall()
    server.script_flush()
    for name in _SCRIPTS:
        server.script_load(source(name))
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory() as folder, simulated(loop, seed), _quiet():
        config = Path(folder) / "agents.yaml"
        config.write_text(yaml.safe_dump(_CONFIG))
        network = Network(loop, server, random.Random(f"network {seed}"), {name: source(name) for name in _SCRIPTS})
        use_network(network)
        history = History(loop, network, seed, partitions, Path(folder))
        if trace:
            network.trace = history.say
        handler = _Unexpected(history.oracle)
        logging.getLogger().addHandler(handler)
        try:
            _run(loop, history, scene)
        finally:
            logging.getLogger().removeHandler(handler)
            use_network(None)
            network.close()
        return _report(loop, history)


def _run(loop: VirtualLoop, history: History, scene: Scene) -> None:
    oracle = history.oracle

    async def whole() -> None:
        async with asyncio.timeout(_END):
            await scene(history)

    try:
        loop.run_until_complete(whole())
    except Stuck as stuck:
        oracle.fail(f"nothing moves any more: {stuck}")
    except TimeoutError:
        oracle.fail(f"not over after {_END:g} s")
    except Exception as error:  # once the oracle has spoken, the loop has been stopped in the middle
        oracle.give_up("".join(traceback.format_exception(error)))


def _report(loop: VirtualLoop, history: History) -> Report:
    oracle = history.oracle
    story = oracle.failure or oracle.crash or ""
    outcome = Outcome.VIOLATED if oracle.failure else Outcome.CRASHED if oracle.crash else Outcome.HELD
    loop.close()
    return Report(
        outcome=outcome,
        story=story,
        counts=dict(oracle.counts) | {"requests": history.network.requests},
        seconds=loop.time(),
        trace=history.said,
    )


@contextmanager
def _quiet() -> Generator[None]:
    """Code of the dead is collected here: what it says then is no news."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook
