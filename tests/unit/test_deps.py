"""Deps by name: made by a factory of the worker, once per attempt, and closed after it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime_core.config.settings import Settings
from runtime_core.contracts.run import DepsFactory, RunRequest, RunResult, StopReason, refuse_object_as_deps
from runtime_core.errors import ConfigError, InvalidInputError, ToolUnavailableError
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins import deps
from runtime_core.plugins.builtin.pattern.base import Pattern as PatternBase
from runtime_core.plugins.decorators import deps_factory
from tests.unit.distributions import installed
from tests.unit.kernel_setup import config, request

MODULE = """
from runtime_core.plugins.decorators import deps_factory

def numbers(first, second=2):
    return [first, second]

@deps_factory("by_decorator")
def registered():
    return "registered"

imported = True
"""


class Seeing(PatternBase):
    """Answers with the run's deps, as text."""

    async def execute(self) -> str:
        return str(self.context.deps)


class Store:
    """What a factory makes; it knows whether it was closed."""

    closed: list[str] = []  # noqa: RUF012

    def __init__(self, region: str) -> None:
        self.region = region

    def __str__(self) -> str:
        return f"store of {self.region}"


class ClosingStore(Store):
    def close(self) -> None:
        self.closed.append(self.region)


class AsyncClosingStore(ClosingStore):
    async def aclose(self) -> None:
        self.closed.append(f"{self.region}, async")


class BadlyClosingStore(Store):
    def close(self) -> None:
        raise OSError("it is gone")


async def open_async(region: str) -> AsyncClosingStore:
    await asyncio.sleep(0)
    return AsyncClosingStore(region)


def failing() -> None:
    raise OSError("no route to host")


def unavailable() -> None:
    raise ToolUnavailableError("come back later")


@pytest.fixture(autouse=True)
def registrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(deps, "_registered", {})
    monkeypatch.setattr(Store, "closed", [])
    deps_factory("store")(ClosingStore)
    deps_factory("async_store")(open_async)
    deps_factory("badly_closing")(BadlyClosingStore)
    deps_factory("failing")(failing)
    deps_factory("unavailable")(unavailable)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "our_deps.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("our_deps", None)


async def run_with(given: Any, *listed: str) -> RunResult:
    """As it comes to a worker: by way of JSON."""
    pattern = {"impl": f"{__name__}.Seeing"}
    host = Runtime(Runtime.from_dict(config(pattern=pattern)).config, deps_factories=listed)
    body = request("hello", deps=given).model_dump_json()
    try:
        return await host.run_detailed(RunRequest.model_validate_json(body))
    finally:
        await host.close()


@pytest.mark.parametrize(
    ("factory", "closed"), [("store", ["eu"]), ("async_store", ["eu, async"]), ("badly_closing", [])]
)
async def test_a_factory_makes_the_deps_of_a_run_and_they_are_closed(factory: str, closed: list[str]) -> None:
    result = await run_with({"factory": factory, "arguments": {"region": "eu"}})

    assert (result.final_output, result.stop_reason) == ("store of eu", StopReason.COMPLETED)
    assert Store.closed == closed


async def test_the_deps_of_a_run_that_fails_are_closed_too() -> None:
    host = Runtime.from_dict(
        config(pattern={"impl": "tests.unit.kernel_plugins.Raising", "config": {"raises": "value"}})
    )

    result = await host.run_detailed(request("hello", deps=DepsFactory(factory="store", arguments={"region": "eu"})))

    assert (result.stop_reason, Store.closed) == (StopReason.FAILED, ["eu"])


@pytest.mark.parametrize("given", [{"region": "eu"}, {"factory": "store", "colour": "red"}, {"factory": 7}, "text"])
async def test_any_other_object_is_the_deps_themselves_in_process(given: Any) -> None:
    host = Runtime.from_dict(config(pattern={"impl": f"{__name__}.Seeing"}))

    assert (await host.run_detailed(request("hello", deps=given))).final_output == str(given)


@pytest.mark.parametrize(
    ("given", "code", "essentials"),
    [
        ({"factory": "stor"}, "config.error", ["no deps factory 'stor'", "Did you mean 'store'?", "async_store"]),
        ({"factory": "os:getcwd"}, "config.error", ["no deps factory 'os:getcwd'"]),
        (
            {"factory": "store"},
            "user.invalid_input",
            ["missing a required argument: 'region'", "it takes (region: 'str')"],
        ),
        ({"factory": "store", "arguments": {"region": "eu", "size": 1}}, "user.invalid_input", ["size"]),
        ({"factory": "failing"}, "plugin.error", ["'failing' failed: OSError: no route to host"]),
        ({"factory": "unavailable"}, "tool.unavailable", ["come back later"]),
    ],
)
async def test_deps_that_cannot_be_made_fail_the_run(given: Any, code: str, essentials: list[str]) -> None:
    result = await run_with(given)

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert result.error_details.code == code
    for essential in essentials:
        assert essential in f"{result.error_details.message} {result.error_details.hint}"


@pytest.mark.usefixtures("module")
async def test_a_path_is_imported_only_if_the_operator_lists_it() -> None:
    path = {"factory": "our_deps:numbers", "arguments": {"first": 1}}

    refused = await run_with(path)
    assert refused.stop_reason is StopReason.FAILED
    assert "our_deps" not in sys.modules
    assert (await run_with(path, "our_deps:numbers")).final_output == "[1, 2]"


@pytest.mark.usefixtures("module")
async def test_a_listed_module_registers_its_others_by_decorator() -> None:
    assert (await run_with({"factory": "by_decorator"}, "our_deps:numbers")).final_output == "registered"


@pytest.mark.usefixtures("module")
async def test_what_is_listed_must_be_a_function() -> None:
    result = await run_with({"factory": "our_deps:imported"}, "our_deps:imported")

    assert result.error_details is not None
    assert "is a bool, not a function" in result.error_details.message


async def test_a_package_offers_factories_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offers, modules = "[runlane.deps]\noffered = our_deps:numbers\nbroken = our_deps:nothing\n", {"our_deps": MODULE}
    with installed(tmp_path, "our-deps", modules=modules, entry_points=offers, monkeypatch=monkeypatch):
        found = await run_with({"factory": "offered", "arguments": {"first": 5}})
        broken = await run_with({"factory": "broken"})

    assert found.final_output == "[5, 2]"
    assert broken.error_details is not None
    assert "'broken' of the distribution 'our-deps'" in broken.error_details.message


def test_a_named_factory_travels_and_an_object_does_not() -> None:
    named = request("hello", deps=DepsFactory(factory="store", arguments={"region": "eu"}))
    plain = request("hello", deps={"factory": "store"})

    assert json.loads(named.model_dump_json())["deps"] == {"factory": "store", "arguments": {"region": "eu"}}
    assert json.loads(plain.model_dump_json())["deps"] == {"factory": "store"}
    assert "deps" not in json.loads(request("hello", deps=object()).model_dump_json())
    assert "deps" not in json.loads(request().model_dump_json())
    for run in (named, plain, request()):
        refuse_object_as_deps(run)
    with pytest.raises(InvalidInputError, match="cannot travel") as caught:
        refuse_object_as_deps(request("hello", deps={"factory": "store", "arguments": {"when": object()}}))
    assert '{"factory": "<name>"' in str(caught.value)


def test_the_operator_lists_paths_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNLANE_DEPS", "our_deps:numbers, a.b:c")
    assert Settings().deps_factories == ["our_deps:numbers", "a.b:c"]

    monkeypatch.setenv("RUNLANE_DEPS", "our_deps.numbers")
    with pytest.raises(ConfigError, match=r"RUNLANE_DEPS.*'our_deps\.numbers' is not a path"):
        Settings()
