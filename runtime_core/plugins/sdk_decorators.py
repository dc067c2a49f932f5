"""What the decorators of the openagents SDK have registered in this process: known here by the same names.

The SDK is asked only where a plugin module has imported it; nothing here imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from runtime_core.plugins.protocols import Seam

#: Seam → their functions that return one plugin by name, and all names.
_ACCESSORS: Mapping[Seam, tuple[str, str]] = {
    Seam.MEMORY: ("get_memory", "list_memories"),
    Seam.PATTERN: ("get_pattern", "list_patterns"),
    Seam.TOOL: ("get_tool", "list_tools"),
    Seam.TOOL_EXECUTOR: ("get_tool_executor", "list_tool_executors"),
    Seam.CONTEXT_ASSEMBLER: ("get_context_assembler", "list_context_assemblers"),
    Seam.SESSION: ("get_session", "list_sessions"),
    Seam.EVENTS: ("get_event_bus", "list_event_buses"),
    Seam.RUNTIME: ("get_runtime", "list_runtimes"),
}


def decorated(seam: Seam, name: str) -> Any | None:
    """The class or function of that name, or None."""
    decorators = sys.modules.get("openagents.decorators")
    return getattr(decorators, _ACCESSORS[seam][0])(name) if decorators and seam in _ACCESSORS else None


def decorated_names(seam: Seam) -> list[str]:
    decorators = sys.modules.get("openagents.decorators")
    return list(getattr(decorators, _ACCESSORS[seam][1])()) if decorators and seam in _ACCESSORS else []
