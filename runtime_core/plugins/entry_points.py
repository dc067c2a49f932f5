"""What installed packages offer by entry point: found when asked for, imported when used.

Importing a package may fail or take long, so that a name is enough until the object is needed. A package that is
broken is an error for whoever asks for its name, and for nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from runtime_core.errors import PluginLoadError
from runtime_core.wording import in_words


@dataclass(frozen=True, kw_only=True)
class Offered:
    """An object that a distribution offers; ``path`` is ``module:object``."""

    name: str
    path: str
    distribution: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import it. Raises PluginLoadError that names the distribution, whatever its code raises."""
        try:
            return self.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginLoadError(
                f"{self.name!r} of the distribution {self.distribution!r} cannot be loaded from {self.path}: "
                f"{in_words(error)}",
                hint=f"correct or upgrade it: pip install --upgrade {self.distribution}",
            ) from error


@cache
def offered(group: str) -> dict[str, Offered]:
    """By name, of the distributions on the path when first asked; of two that offer one name, the first in order."""
    found: dict[str, Offered] = {}
    for point in entry_points(group=group):
        distribution = point.dist.name if point.dist is not None else "(unknown)"
        found.setdefault(
            point.name, Offered(name=point.name, path=point.value, distribution=distribution, entry_point=point)
        )
    return found
