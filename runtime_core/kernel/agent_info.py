"""What can be said of an agent without running it."""

from __future__ import annotations

from typing import Any

from runtime_core.config.schema import AgentDefinition, PluginRef
from runtime_core.kernel.agent_plugins import AgentPlugins

_SINGLE_PLUGINS = ("memory", "pattern", "tool_executor", "context_assembler")


def describe_agent(agent: AgentDefinition, plugins: AgentPlugins | None) -> dict[str, Any]:
    """JSON-ready: id, name, its plugin references, the ids of enabled tools, and the class names of loaded plugins."""
    return {
        "id": agent.id,
        "name": agent.name,
        **{name: _reference(getattr(agent, name)) for name in _SINGLE_PLUGINS},
        "tools": [tool.id for tool in agent.tools if tool.enabled],
        "loaded_plugins": {
            **{name: _class_name(plugins, name) for name in _SINGLE_PLUGINS},
            "tools": sorted(plugins.tools) if plugins else [],
        },
    }


def _reference(ref: PluginRef | None) -> dict[str, str | None]:
    return {"type": ref.type, "impl": ref.impl} if ref else {"type": None, "impl": None}


def _class_name(plugins: AgentPlugins | None, name: str) -> str | None:
    plugin = getattr(plugins, name, None)
    return None if plugin is None else type(plugin).__name__
