"""A plugin's config as a pydantic model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from runtime_core.config.problems import describe_problems
from runtime_core.errors import PluginConfigError
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)


class TypedConfig:
    """Mixin: the nested ``Config`` model validates the config, which is then ``self.cfg`` (``self.config`` as given).

    A plugin declares ``cfg: Config`` for its type checker. Raises PluginConfigError that names the plugin and each
    field. A field that ``Config`` does not have is a warning in the log, as in the original, unless it forbids them.
    """

    Config: ClassVar[type[BaseModel]]
    cfg: Any

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = dict(config or {})
        plugin, known = type(self).__name__, self.Config.model_fields
        try:
            self.cfg = self.Config.model_validate(self.config)
        except ValidationError as error:
            problems = describe_problems(error, self.Config, root="config")
            fields = ", ".join(known) or "none"
            raise PluginConfigError(f"{plugin}: {problems}", hint=f"config fields of {plugin}: {fields}") from error
        if self.Config.model_config.get("extra") != "allow":
            for name in self.config.keys() - known.keys():
                logger.warning("%s ignores the unknown config field %r. %s", plugin, name, did_you_mean(name, known))
