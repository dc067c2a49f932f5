"""What can be said of an agent without running it."""

from __future__ import annotations

from typing import Any

from runtime_core.config.schema import AgentDefinition, PluginRef
from runtime_core.kernel.agent_plugins import AgentPlugins


def describe_agent(agent: AgentDefinition, plugins: AgentPlugins | None) -> dict[str, Any]:
    """JSON-ready: id, name, its plugin references, the enabled tools, and the class names of loaded plugins if any."""
    return {
        "id": agent.id,
        "name": agent.name,
        "memory": _reference(agent.memory),
        "pattern": _reference(agent.pattern),
        "tool_executor": _reference(agent.tool_executor),
        "context_assembler": _reference(agent.context_assembler),
        "tools": [{"id": tool.id, **_selector(tool)} for tool in agent.tools if tool.enabled],
        "loaded_plugins": None if plugins is None else _loaded(plugins),
    }


def _reference(ref: PluginRef | None) -> dict[str, str | None] | None:
    return None if ref is None else _selector(ref)


def _selector(ref: PluginRef) -> dict[str, str | None]:
    return {"type": ref.type, "impl": ref.impl}


def _loaded(plugins: AgentPlugins) -> dict[str, Any]:
    return {
        "memory": type(plugins.memory).__name__,
        "pattern": type(plugins.pattern).__name__,
        "tool_executor": type(plugins.tool_executor).__name__,
        "context_assembler": None if plugins.context_assembler is None else type(plugins.context_assembler).__name__,
        "tools": sorted(plugins.tools),
    }
