"""Decorators that give a plugin a name, so that the agents file can say ``type: <name>``.

::

    @tool
    def add(left: int, right: int) -> int:
        '''Add two numbers.'''
        return left + right

    @memory(name="notes")
    class Notes: ...

The name is known once the module is imported. ``impl: module.Class`` needs no decorator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

from runtime_core.plugins import deps, registry
from runtime_core.plugins.function_tool import describe_as
from runtime_core.plugins.protocols import Seam

PluginT = TypeVar("PluginT", bound=Callable[..., Any])


class Decorator(Protocol):
    """``@memory``, ``@memory()``, ``@memory("notes")`` and ``@memory(name="notes")``; returns what it decorates."""

    @overload
    def __call__(self, plugin: PluginT, /) -> PluginT: ...
    @overload
    def __call__(self, name: str | None = None) -> Callable[[PluginT], PluginT]: ...
    def __call__(self, name: Any = None) -> Any: ...


def _decorator(seam: Seam) -> Decorator:
    def decorator(name: Any = None) -> Any:
        if callable(name):
            return _register(seam, name, None)
        return lambda plugin: _register(seam, plugin, name)

    return decorator


def _register(seam: Seam, plugin: PluginT, name: str | None) -> PluginT:
    registry.register(seam, name or plugin.__name__, plugin)
    return plugin


memory = _decorator(Seam.MEMORY)
pattern = _decorator(Seam.PATTERN)
session = _decorator(Seam.SESSION)
event_bus = _decorator(Seam.EVENTS)
tool_executor = _decorator(Seam.TOOL_EXECUTOR)
context_assembler = _decorator(Seam.CONTEXT_ASSEMBLER)
runtime = _decorator(Seam.RUNTIME)


def deps_factory(name: str) -> Callable[[PluginT], PluginT]:
    """Register a function, plain or async, that makes the ``deps`` of a run: ``{"factory": name, "arguments": {…}}``.

    It gets the arguments by keyword, once per attempt. What it returns is closed after the run if it has ``aclose`` or
    ``close``.
    """

    def decorate(factory: PluginT) -> PluginT:
        deps.register(name, factory)
        return factory

    return decorate


@overload
def tool(name: PluginT, /) -> PluginT: ...
@overload
def tool(name: str | None = None, description: str = "") -> Callable[[PluginT], PluginT]: ...
def tool(name: Any = None, description: str = "") -> Any:
    """Register a tool: a function, whose signature becomes its schema (see function_tool.py), or a class.

    ``name`` and ``description`` are what the model sees; by default the function's name and docstring.
    """

    def decorate(plugin: PluginT, chosen: str | None = name) -> PluginT:
        describe_as(plugin, chosen, description)
        return _register(Seam.TOOL, plugin, chosen)

    return decorate(name, None) if callable(name) else decorate
