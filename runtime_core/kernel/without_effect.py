"""What an agents file may say and this version does not do: whoever says it is told."""

from __future__ import annotations

import logging

from runtime_core.config.schema import AppConfig, DefaultRuntimeConfig
from runtime_core.suggestions import did_you_mean

logger = logging.getLogger(__name__)

#: They are read, so that files of the openagents SDK load; whoever sets one is told.
_LLM_OPTIONS_WITHOUT_EFFECT = ("stream_endpoint",)


def warn_of_what_has_no_effect(config: AppConfig) -> None:
    known = DefaultRuntimeConfig.model_fields
    for name in config.runtime.config.keys() - known.keys() if config.runtime.type == "default" else ():
        logger.warning(
            "runtime.config.%s of the agents file has no effect in this version. %sFields: %s",
            name,
            did_you_mean(name, known),
            ", ".join(known),
        )
    for agent in config.agents:
        for option in _LLM_OPTIONS_WITHOUT_EFFECT:
            if getattr(agent.llm, option, None) is not None:
                logger.warning("agents[%r].llm.%s of the agents file has no effect in this version", agent.id, option)
