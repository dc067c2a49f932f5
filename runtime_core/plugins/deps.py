"""Factories of ``deps`` by name: what a request from another process may have made for its run.

A name is known in three ways: the decorator ``@deps_factory("name")``, once its module is imported; an entry point of
the group ``runlane.deps``; and ``module:function`` itself, if the worker's operator lists it (RUNLANE_DEPS). Nothing
else is imported: a client must not choose which code a worker executes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from runtime_core.config.schema import PluginRef
from runtime_core.errors import ConfigError
from runtime_core.plugins.entry_points import offered
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)

ENTRY_POINTS = "runlane.deps"

Factory = Callable[..., Any]

_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Make ``factory`` known as ``name``. It takes the place of an earlier one, with a warning if that is another."""
    earlier = _registered.get(name)
    if earlier is not None and _place(earlier) != _place(factory):
        logger.warning("deps factory %r: %s takes the place of %s", name, _place(factory), _place(earlier))
    _registered[name] = factory


def find(name: str, listed: Sequence[str] = ()) -> Factory:
    """The factory ``name``; ``listed`` are the paths that may be imported.

    Raises ConfigError with a near match for an unknown name, PluginLoadError if it cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    factory: Any = None
    if name in listed:
        factory = _imported(name)
    elif (offer := offered(ENTRY_POINTS).get(name)) is not None:
        factory = offer.load()
    else:
        for path in listed:  # a module that is listed may register others by decorator
            _imported(path)
        factory = _registered.get(name)
    if factory is None:
        known = sorted({*_registered, *offered(ENTRY_POINTS), *listed})
        raise ConfigError(
            f"there is no deps factory {name!r}",
            hint=f"{did_you_mean(name, known)}Available: {', '.join(known) or '(none)'}. Register one with "
            f"@deps_factory, the entry point group {ENTRY_POINTS}, or the worker's RUNLANE_DEPS=module:function",
        )
    if not callable(factory):
        raise ConfigError(
            f"the deps factory {name!r} is a {type(factory).__name__}, not a function",
            hint="name a function or class that makes the deps of a run",
        )
    return factory


def _imported(path: str) -> Any:
    from runtime_core.plugins.loader import load_symbol
    from runtime_core.plugins.protocols import Seam

    return load_symbol(Seam.RUNTIME, PluginRef(impl=path), where="RUNLANE_DEPS")


def _place(factory: Factory) -> str:
    return f"{getattr(factory, '__module__', '?')}.{getattr(factory, '__qualname__', type(factory).__qualname__)}"
