"""The clients for code without an event loop have the verbs of the asynchronous ones, with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from producer.client import AsyncClient
from producer.fleet import Fleet
from producer.sync_client import Client
from producer.sync_fleet import SyncFleet

#: What only makes sense beside other work on a loop.
_ASYNC_ONLY = {"progress"}


def verbs(kind: type[Any]) -> dict[str, list[str]]:
    """Public method → its parameters."""
    return {
        name: [parameter for parameter in inspect.signature(method).parameters if parameter not in _ASYNC_ONLY]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in ("close", "aclose")
    }


@pytest.mark.parametrize(("asynchronous", "blocking"), [(AsyncClient, Client), (Fleet, SyncFleet)])
def test_the_twins_have_the_same_verbs(asynchronous: type[Any], blocking: type[Any]) -> None:
    assert verbs(asynchronous) == verbs(blocking)
