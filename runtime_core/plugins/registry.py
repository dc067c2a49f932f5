"""Which plugins have a name: the builtins, imported when first asked for, and those that decorators register."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from runtime_core.plugins.protocols import Seam

logger = logging.getLogger(__name__)

_BUILTIN = "runtime_core.plugins.builtin"

#: ``module:Class`` of each builtin.
BUILTINS: Mapping[Seam, Mapping[str, str]] = {
    Seam.MEMORY: {
        "buffer": f"{_BUILTIN}.memory.buffer:BufferMemory",
        "window_buffer": f"{_BUILTIN}.memory.window_buffer:WindowBufferMemory",
    },
    Seam.PATTERN: {"react": f"{_BUILTIN}.pattern.react:ReactPattern"},
    Seam.TOOL: {
        "calc": f"{_BUILTIN}.tool.calc:CalcTool",
        "current_time": f"{_BUILTIN}.tool.current_time:CurrentTimeTool",
        "read_file": f"{_BUILTIN}.tool.read_file:ReadFileTool",
        "list_files": f"{_BUILTIN}.tool.list_files:ListFilesTool",
        "grep_files": f"{_BUILTIN}.tool.grep_files:GrepFilesTool",
        "json_parse": f"{_BUILTIN}.tool.json_parse:JsonParseTool",
        "text_transform": f"{_BUILTIN}.tool.text_transform:TextTransformTool",
    },
    Seam.SESSION: {
        "in_memory": f"{_BUILTIN}.session.in_memory:InMemorySession",
        "redis": f"{_BUILTIN}.session.redis:RedisSession",
    },
    Seam.EVENTS: {"async": "runtime_core.events.bus:EventBus"},
}

#: Types of the openagents SDK that this version does not have: named, so that the error can say so.
NOT_IN_THIS_VERSION: Mapping[Seam, frozenset[str]] = {
    Seam.MEMORY: frozenset({"markdown_memory", "chain", "mem0", "zep"}),
    Seam.PATTERN: frozenset({"plan_execute", "reflexion"}),
    Seam.TOOL: frozenset(
        {
            "builtin_search",
            "mcp",
            "write_file",
            "delete_file",
            "ripgrep",
            "http_request",
            "remember_preference",
            "shell_exec",
            "tavily_search",
            "execute_command",
            "get_env",
            "set_env",
            "date_parse",
            "date_diff",
            "random_int",
            "random_choice",
            "random_string",
            "uuid",
            "url_parse",
            "url_build",
            "query_param",
            "host_lookup",
            "percentage",
            "min_max",
        }
    ),
    Seam.TOOL_EXECUTOR: frozenset({"safe", "retry", "filesystem_aware", "concurrent_batch"}),
    Seam.CONTEXT_ASSEMBLER: frozenset({"truncating", "head_tail", "sliding_window", "importance_weighted"}),
    Seam.SESSION: frozenset({"sqlite", "jsonl_file"}),
    Seam.EVENTS: frozenset({"file_logging", "otel_bridge", "rich_console"}),
    Seam.RUNTIME: frozenset({"default"}),
    Seam.SKILLS: frozenset({"local"}),
    Seam.DIAGNOSTICS: frozenset({"null", "rich", "langfuse", "phoenix"}),
}

_registered: dict[Seam, dict[str, Any]] = {seam: {} for seam in Seam}


def register(seam: Seam, name: str, plugin: Any) -> None:
    """Make ``plugin`` known as ``type: <name>``. It takes the place of an earlier one or a builtin, with a warning."""
    earlier = _registered[seam].get(name)
    if name in BUILTINS.get(seam, {}):
        logger.warning("%s %r takes the place of the builtin of that name", seam, name)
    elif earlier is not None and _qualified_name(earlier) != _qualified_name(plugin):
        logger.warning("%s %r: %s takes the place of %s", seam, name, _qualified_name(plugin), _qualified_name(earlier))
    _registered[seam][name] = plugin


def registered(seam: Seam, name: str) -> Any | None:
    """What a decorator registered as ``name``, or None."""
    return _registered[seam].get(name)


def builtin_path(seam: Seam, name: str) -> str | None:
    """``module:Class`` of a builtin, or None."""
    return BUILTINS.get(seam, {}).get(name)


def known_types(seam: Seam) -> list[str]:
    """Every type that can be loaded, sorted."""
    return sorted({*BUILTINS.get(seam, {}), *_registered[seam]})


def _qualified_name(plugin: Any) -> str:
    return f"{getattr(plugin, '__module__', '?')}.{getattr(plugin, '__qualname__', type(plugin).__qualname__)}"
