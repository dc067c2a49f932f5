"""From a reference in the agents file to a plugin that can be used, or to a PluginLoadError that says what to do."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from runtime_core.config.problems import describe_problems
from runtime_core.config.schema import PluginRef
from runtime_core.errors import PluginConfigError, PluginError, PluginLoadError
from runtime_core.plugins import registry
from runtime_core.plugins.function_tool import function_tool
from runtime_core.plugins.protocols import REQUIRED_METHODS, Seam
from runtime_core.suggestions import did_you_mean
from runtime_core.wording import in_words


def load_plugin(seam: Seam | str, ref: PluginRef, *, where: str = "") -> Any:
    """Make the plugin that ``ref`` names; ``where`` is the place of ``ref`` in the agents file, for errors.

    Raises PluginLoadError if it cannot be found, imported or made, or lacks a required method, and PluginConfigError
    if it refuses its config. Whatever the plugin's own code raises, SystemExit too, comes out as PluginLoadError.
    """
    seam = Seam(seam)
    where = where or seam.value
    symbol = load_symbol(seam, ref, where=where)
    if inspect.isroutine(symbol) and seam is Seam.TOOL:
        return function_tool(symbol)
    if isinstance(symbol, type):
        _check_methods(seam, symbol, symbol.__name__, where)
    if isinstance(symbol, type) or inspect.isroutine(symbol):
        symbol = _construct(symbol, ref, where)
        _check_methods(seam, symbol, type(symbol).__name__, where)
        return symbol
    _check_methods(seam, symbol, f"{ref.impl or ref.type}, a {type(symbol).__name__},", where)
    return symbol


def load_symbol(seam: Seam, ref: PluginRef, *, where: str) -> Any:
    """The class, function or object that ``ref`` names; nothing is made of it yet."""
    if ref.impl:
        return _import_symbol(ref.impl, where)
    name = ref.type or ""
    symbol = registry.registered(seam, name)
    if symbol is not None:
        return symbol
    path = registry.builtin_path(seam, name)
    if path is not None:
        return _import_symbol(path, where)
    offer = registry.installed(seam, name)
    if offer is not None:
        try:
            return offer.load()
        except PluginLoadError as error:
            raise PluginLoadError(f"{where}: {error.message}", hint=error.hint) from error.__cause__
    known = registry.known_types(seam)
    if (theirs := registry.ONLY_IN_SDK.get(seam, {}).get(name)) is not None:
        package, path = theirs
        raise PluginLoadError(
            f"{where}: the {seam} type {name!r} needs the package {package!r} and is not in this version",
            hint=f"use the openagents SDK's class: pip install io-openagent-sdk {package}, and impl: {path} in place "
            f"of the type; or one of {', '.join(known) or '(none)'}",
        )
    raise PluginLoadError(
        f"{where}: unknown {seam} type {name!r}",
        hint=f"{did_you_mean(name, known)}Available: {', '.join(known) or '(none)'}. A type registered by a decorator "
        "is known once its module is imported; impl: module.Class needs no import",
    )


def _import_symbol(path: str, where: str) -> Any:
    module_name, separator, name = path.partition(":")
    if not separator:
        module_name, _, name = path.rpartition(".")
    parts = [*module_name.split("."), *name.split(".")]
    if not module_name or not all(part.isidentifier() for part in parts):
        raise PluginLoadError(
            f"{where}: impl {path!r} is not a path",
            hint="write module.Class or module:Class, the module by its full name",
        )
    symbol: Any = _import_module(module_name, where)
    for part in name.split("."):
        try:
            symbol = getattr(symbol, part)
        except AttributeError as error:
            raise PluginLoadError(
                f"{where}: module {module_name!r} has no {name!r}",
                hint=f"{did_you_mean(part, _public_names(symbol))}Check the spelling in impl {path!r}",
            ) from error
    return symbol


def _import_module(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        top = missing.partition(".")[0]
        if f"{name}.".startswith(f"{missing}."):
            raise PluginLoadError(
                f"{where}: there is no module {missing!r}",
                hint=f"check the spelling; install it, or put the directory with {top!r} on PYTHONPATH",
            ) from error
        raise PluginLoadError(
            f"{where}: module {name!r} needs {missing!r}, which is not installed", hint=f"install {missing!r}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginLoadError(
            f"{where}: importing {name!r} raised {in_words(error)}",
            hint=f"correct the module; see it alone with: python -c 'import {name}'",
        ) from error


def _construct(factory: Callable[..., Any], ref: PluginRef, where: str) -> Any:
    label = f"{where}: {getattr(factory, '__name__', factory)!s}"
    arguments: dict[str, Any] = {}
    if _takes_config(factory):
        arguments["config"] = dict(ref.config)
    elif ref.config:
        raise PluginLoadError(
            f"{label} takes no config, but one is given: {', '.join(ref.config)}",
            hint="remove 'config', or accept it: def __init__(self, config=None)",
        )
    try:
        return factory(**arguments)
    except PluginError as error:
        raise type(error)(f"{where}: {error.message}", hint=error.hint) from error.__cause__
    except ValidationError as error:
        raise PluginConfigError(
            f"{label}: {describe_problems(error, BaseModel, root='config')}", hint="correct the plugin's config"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginLoadError(
            f"{label} could not be made: {in_words(error)}",
            hint="a plugin is made by calling it with config=<mapping>, or with nothing",
        ) from error


def _takes_config(factory: Callable[..., Any]) -> bool:
    try:
        return _has_config(factory)
    except TypeError:  # it has no hash
        return _has_config.__wrapped__(factory)


@lru_cache(maxsize=256)  # to ask takes as long as half of what else makes a session's plugins
def _has_config(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return True
    return "config" in parameters or any(item.kind is item.VAR_KEYWORD for item in parameters.values())


def _check_methods(seam: Seam, plugin: Any, label: str, where: str) -> None:
    missing = [name for name in REQUIRED_METHODS[seam] if not callable(getattr(plugin, name, None))]
    if missing:
        raise PluginLoadError(
            f"{where}: {label} lacks {', '.join(missing)}",
            hint=f"a {seam} plugin implements {', '.join(REQUIRED_METHODS[seam])}",
        )


def _public_names(symbol: Any) -> list[str]:
    return [name for name in dir(symbol) if not name.startswith("_")]
