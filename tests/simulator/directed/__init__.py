"""Directed histories: each leads a fleet to the one moment for which a guard is there, where chance seldom leads."""

from __future__ import annotations

from tests.simulator.directed import cancels, doorbells, keeping, leases, moves, poison, requests, writes
from tests.simulator.directed.scenes import SCENES, DirectedScene

__all__ = [
    "SCENES",
    "DirectedScene",
    "cancels",
    "doorbells",
    "keeping",
    "leases",
    "moves",
    "poison",
    "requests",
    "writes",
]
