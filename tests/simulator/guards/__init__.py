"""The guards of the protocol and of the worker: each is removed once, and the named history must notice."""

from __future__ import annotations

from tests.simulator.guards import keeping, protocol, workers
from tests.simulator.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (*protocol.GUARDS, *workers.GUARDS, *keeping.GUARDS)

__all__ = ["GUARDS", "Guard"]
