"""Which plugins there are, for people and tools that ask: builtin, registered, installed, and those that are not."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from runtime_core.config.schema import PluginRef
from runtime_core.errors import ConfigError, PluginError
from runtime_core.plugins import registry
from runtime_core.plugins.entry_points import offered
from runtime_core.plugins.loader import load_symbol
from runtime_core.plugins.protocols import Seam
from runtime_core.suggestions import did_you_mean


class PluginSource(StrEnum):
    BUILTIN = "builtin"
    #: By a decorator, in a module that this process has imported.
    REGISTERED = "registered"
    #: By a distribution's entry point.
    INSTALLED = "installed"
    #: A name of the openagents SDK that this version does not have.
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """``path`` is ``module:object``. ``missing`` says what to do before it can be used, empty if nothing."""

    seam: Seam
    type: str
    source: PluginSource
    path: str = ""
    description: str = ""
    distribution: str = ""
    missing: str = ""
    #: Its class or function; None if it cannot be imported.
    symbol: Any = None

    @property
    def config_model(self) -> type[BaseModel] | None:
        """The model that its config is checked by, None if it has none."""
        model = getattr(self.symbol, "Config", None)
        return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def plugins(seam: Seam | None = None) -> list[Plugin]:
    """Those of one seam, or all, by seam and type. Each is imported; what cannot be says why."""
    seams = list(Seam) if seam is None else [seam]
    return [one for each in seams for one in sorted(_of(each), key=lambda plugin: plugin.type)]


def offered_in_vain() -> list[str]:
    """A sentence for each offer of a package that no agents file can name."""
    sentences: list[str] = []
    for name, offer in sorted(offered(registry.ENTRY_POINTS).items()):
        seam, _, type_name = name.partition(".")
        if seam not in list(Seam) or not type_name:
            advice = did_you_mean(seam, list(Seam))
            why = f"that is not seam.type, such as tool.weather. {advice}Seams: {', '.join(Seam)}"
        elif registry.builtin_path(Seam(seam), type_name) is not None:
            why = "the builtin of that name is used"
        else:
            continue
        sentences.append(f"{offer.distribution} offers {name!r}: {why}")
    return sentences


def plugin_named(name: str) -> Plugin:
    """The plugin ``seam.type``. Raises ConfigError with a near match."""
    seam_name, _, type_name = name.partition(".")
    if seam_name not in list(Seam):
        raise ConfigError(
            f"{name!r} names no plugin",
            hint=f"{did_you_mean(seam_name, list(Seam))}Write seam.type, such as tool.calc; seams: {', '.join(Seam)}",
        )
    found = {plugin.type: plugin for plugin in plugins(Seam(seam_name))}
    if type_name not in found:
        raise ConfigError(
            f"there is no {seam_name} type {type_name!r}",
            hint=f"{did_you_mean(type_name, found)}Available: {', '.join(found) or '(none)'}",
        )
    return found[type_name]


def _of(seam: Seam) -> Iterator[Plugin]:
    for name in registry.known_types(seam):
        offer = registry.installed(seam, name)
        if (symbol := registry.registered(seam, name)) is not None:
            yield _described(seam, name, PluginSource.REGISTERED, symbol, _path_of(symbol))
        elif (path := registry.builtin_path(seam, name)) is not None:
            yield _loaded(seam, name, PluginSource.BUILTIN, path)
        elif offer is not None:
            yield _loaded(seam, name, PluginSource.INSTALLED, offer.path, offer.distribution)
    for name, (package, path) in registry.ONLY_IN_SDK.get(seam, {}).items():
        if name not in registry.known_types(seam):
            instead = f"pip install io-openagent-sdk {package}, impl: {path}"
            missing = f"not in this version; use the SDK's class: {instead}"
            yield Plugin(seam=seam, type=name, source=PluginSource.ABSENT, missing=missing)


def _loaded(seam: Seam, name: str, source: PluginSource, path: str, distribution: str = "") -> Plugin:
    try:
        symbol = load_symbol(seam, PluginRef(type=name), where=f"{seam}.{name}")
    except PluginError as error:
        missing = (
            _missing_package(seam, name, source) or f"{error.message.removeprefix(f'{seam}.{name}: ')} ({error.hint})"
        )
        return Plugin(seam=seam, type=name, source=source, path=path, distribution=distribution, missing=missing)
    return _described(seam, name, source, symbol, path, distribution)


def _described(seam: Seam, name: str, source: PluginSource, symbol: Any, path: str, distribution: str = "") -> Plugin:
    return Plugin(
        seam=seam,
        type=name,
        source=source,
        path=path,
        description=_description(symbol, source),
        distribution=distribution,
        missing=_missing_package(seam, name, source),
        symbol=symbol,
    )


def _missing_package(seam: Seam, name: str, source: PluginSource) -> str:
    needed = registry.NEEDS_EXTRA.get(seam, {}).get(name) if source is PluginSource.BUILTIN else None
    if needed is None or importlib.util.find_spec(needed[0]) is not None:
        return ""
    return f"needs the package {needed[0]!r} (pip install 'runlane[{needed[1]}]')"


def _description(symbol: Any, source: PluginSource) -> str:
    """The first sentence of what a tool tells the model, of what a builtin's module says, or of the docstring."""
    text: Any = getattr(symbol, "description", None)
    if not isinstance(text, str) or not text:
        documented = sys.modules.get(symbol.__module__) if source is PluginSource.BUILTIN else symbol
        text = inspect.getdoc(documented) or ""
        text = re.sub(r"^[A-Z][a-z ]* ``\w+``: ", "", text)
    sentence = " ".join(re.split(r"\n\s*\n|(?<=\.)\s", text.strip(), maxsplit=1)[0].split())
    return sentence[:1].upper() + sentence[1:]


def _path_of(symbol: Any) -> str:
    return f"{getattr(symbol, '__module__', '?')}:{getattr(symbol, '__qualname__', type(symbol).__qualname__)}"
