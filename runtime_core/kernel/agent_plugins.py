"""The plugins of one agent, as one session holds them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from runtime_core.config.schema import AgentDefinition, PluginRef
from runtime_core.errors import PluginError
from runtime_core.kernel.optional_methods import call_if_present
from runtime_core.plugins.builtin.executor.calling import DirectToolExecutor
from runtime_core.plugins.loader import load_plugin, load_symbol
from runtime_core.plugins.protocols import Seam
from runtime_core.session_resources import SessionResources

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class AgentPlugins:
    """Made once per (session, agent) and used by one run after the other."""

    #: What they were made from.
    agent: AgentDefinition
    memory: Any
    pattern: Any
    tools: dict[str, Any]
    tool_executor: Any
    context_assembler: Any = None
    #: Tools whose preflight has succeeded; failures are not remembered.
    ready_tools: set[str] = field(default_factory=set[str])
    #: Shared with the plugins of the session's other agents.
    session_resources: SessionResources

    async def close(self) -> None:
        """Close the memory first, then whatever else can be closed, then leave what is shared; what fails is logged."""
        for plugin in (self.memory, self.pattern, *self.tools.values(), self.tool_executor, self.context_assembler):
            try:
                await call_if_present(plugin, "close")
            except Exception:
                logger.exception("closing %s failed", type(plugin).__name__)
        await self.session_resources.leave()


def load_agent_plugins(agent: AgentDefinition, resources: SessionResources | None = None) -> AgentPlugins:
    """Those of a session that has ``resources``, or its own.

    Raises PluginLoadError or PluginConfigError that names the plugin's place in the agents file.
    """
    where = f"agents['{agent.id}']"

    def load(seam: str, ref: PluginRef | None) -> Any:
        return None if ref is None else load_plugin(seam, ref, where=f"{where}.{seam}")

    pattern = load("pattern", agent.pattern)
    _apply_runtime_options(pattern, agent)
    return AgentPlugins(
        agent=agent,
        memory=load("memory", agent.memory),
        pattern=pattern,
        tools={
            ref.id: load_plugin("tool", ref, where=f"{where}.tools['{ref.id}']") for ref in agent.tools if ref.enabled
        },
        tool_executor=load("tool_executor", agent.tool_executor) or DirectToolExecutor(),
        context_assembler=load("context_assembler", agent.context_assembler),
        session_resources=(SessionResources() if resources is None else resources).join(),
    )


def _apply_runtime_options(pattern: Any, agent: AgentDefinition) -> None:
    """The agent's ``runtime`` options are defaults of its pattern's config."""
    config = getattr(pattern, "config", None)
    if isinstance(config, dict):
        config.setdefault("max_steps", agent.runtime.max_steps)
        config.setdefault("step_timeout_ms", agent.runtime.step_timeout_ms)


def preload_agent_plugins(agent: AgentDefinition) -> list[PluginError]:
    """Import what the agent's plugins are made of, without making any; what could not be imported."""
    refs: list[tuple[Seam, PluginRef | None, str]] = [
        (Seam.MEMORY, agent.memory, "memory"),
        (Seam.PATTERN, agent.pattern, "pattern"),
        (Seam.TOOL_EXECUTOR, agent.tool_executor, "tool_executor"),
        (Seam.CONTEXT_ASSEMBLER, agent.context_assembler, "context_assembler"),
        *((Seam.TOOL, ref, f"tools['{ref.id}']") for ref in agent.tools if ref.enabled),
    ]
    problems: list[PluginError] = []
    for seam, ref, place in refs:
        if ref is None:
            continue
        try:
            load_symbol(seam, ref, where=f"agents['{agent.id}'].{place}")
        except PluginError as error:
            problems.append(error.with_context(agent_id=agent.id))
    return problems
