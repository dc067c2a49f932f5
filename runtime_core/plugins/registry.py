"""Which plugins have a name: the builtins, those that decorators register, and those that installed packages offer.

A package offers them in the entry point group ``runlane.plugins``, each by the name ``<seam>.<type>``::

    [project.entry-points."runlane.plugins"]
    "tool.weather" = "weather_tools:WeatherTool"

They are imported when first asked for. What a decorator registers comes first, then the builtins, then what is offered:
installing a package takes no builtin's place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from runtime_core.plugins.entry_points import Offered, offered
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.sdk_decorators import decorated, decorated_names

logger = logging.getLogger(__name__)

_BUILTIN = "runtime_core.plugins.builtin"
_SDK = "openagents.plugins.builtin"

#: ``module:Class`` of each builtin.
BUILTINS: Mapping[Seam, Mapping[str, str]] = {
    Seam.MEMORY: {
        "buffer": f"{_BUILTIN}.memory.buffer:BufferMemory",
        "window_buffer": f"{_BUILTIN}.memory.window_buffer:WindowBufferMemory",
        "markdown_memory": f"{_BUILTIN}.memory.markdown_memory:MarkdownMemory",
        "chain": f"{_BUILTIN}.memory.chain:ChainMemory",
    },
    Seam.PATTERN: {
        "react": f"{_BUILTIN}.pattern.react:ReactPattern",
        "plan_execute": f"{_BUILTIN}.pattern.plan_execute:PlanExecutePattern",
        "reflexion": f"{_BUILTIN}.pattern.reflexion:ReflexionPattern",
    },
    Seam.TOOL: {
        "builtin_search": f"{_BUILTIN}.tool.builtin_search:BuiltinSearchTool",
        "calc": f"{_BUILTIN}.tool.calc:CalcTool",
        "current_time": f"{_BUILTIN}.tool.current_time:CurrentTimeTool",
        "date_diff": f"{_BUILTIN}.tool.dates:DateDiffTool",
        "date_parse": f"{_BUILTIN}.tool.dates:DateParseTool",
        "delete_file": f"{_BUILTIN}.tool.delete_file:DeleteFileTool",
        "execute_command": f"{_BUILTIN}.tool.execute_command:ExecuteCommandTool",
        "get_env": f"{_BUILTIN}.tool.environment:GetEnvTool",
        "grep_files": f"{_BUILTIN}.tool.grep_files:GrepFilesTool",
        "host_lookup": f"{_BUILTIN}.tool.host_lookup:HostLookupTool",
        "http_request": f"{_BUILTIN}.tool.http_request:HttpRequestTool",
        "json_parse": f"{_BUILTIN}.tool.json_parse:JsonParseTool",
        "list_files": f"{_BUILTIN}.tool.list_files:ListFilesTool",
        "mcp": f"{_BUILTIN}.tool.mcp:McpTool",
        "min_max": f"{_BUILTIN}.tool.numbers:MinMaxTool",
        "percentage": f"{_BUILTIN}.tool.numbers:PercentageTool",
        "query_param": f"{_BUILTIN}.tool.urls:QueryParamTool",
        "random_choice": f"{_BUILTIN}.tool.random_values:RandomChoiceTool",
        "random_int": f"{_BUILTIN}.tool.random_values:RandomIntTool",
        "random_string": f"{_BUILTIN}.tool.random_values:RandomStringTool",
        "read_file": f"{_BUILTIN}.tool.read_file:ReadFileTool",
        "remember_preference": f"{_BUILTIN}.tool.remember_preference:RememberPreferenceTool",
        "ripgrep": f"{_BUILTIN}.tool.ripgrep:RipgrepTool",
        "set_env": f"{_BUILTIN}.tool.environment:SetEnvTool",
        "shell_exec": f"{_BUILTIN}.tool.shell_exec:ShellExecTool",
        "text_transform": f"{_BUILTIN}.tool.text_transform:TextTransformTool",
        "url_build": f"{_BUILTIN}.tool.urls:UrlBuildTool",
        "url_parse": f"{_BUILTIN}.tool.urls:UrlParseTool",
        "uuid": f"{_BUILTIN}.tool.random_values:UuidTool",
        "write_file": f"{_BUILTIN}.tool.write_file:WriteFileTool",
    },
    Seam.TOOL_EXECUTOR: {
        "safe": f"{_BUILTIN}.executor.safe:SafeToolExecutor",
        "retry": f"{_BUILTIN}.executor.retry:RetryToolExecutor",
        "filesystem_aware": f"{_BUILTIN}.executor.filesystem_aware:FilesystemAwareExecutor",
        "concurrent_batch": f"{_BUILTIN}.executor.concurrent_batch:ConcurrentBatchExecutor",
    },
    Seam.CONTEXT_ASSEMBLER: {
        "truncating": f"{_BUILTIN}.context.truncating:TruncatingAssembler",
        "head_tail": f"{_BUILTIN}.context.head_tail:HeadTailAssembler",
        "sliding_window": f"{_BUILTIN}.context.sliding_window:SlidingWindowAssembler",
        "importance_weighted": f"{_BUILTIN}.context.importance_weighted:ImportanceWeightedAssembler",
    },
    Seam.SESSION: {
        "in_memory": f"{_BUILTIN}.session.in_memory:InMemorySession",
        "sqlite": f"{_BUILTIN}.session.sqlite:SqliteSession",
        "jsonl_file": f"{_BUILTIN}.session.jsonl_file:JsonlFileSession",
        "redis": f"{_BUILTIN}.session.redis:RedisSession",
    },
    Seam.EVENTS: {
        "async": "runtime_core.events.bus:EventBus",
        "file_logging": f"{_BUILTIN}.events.file_logging:FileLoggingBus",
        "otel_bridge": f"{_BUILTIN}.events.otel_bridge:OtelBridgeBus",
        "rich_console": f"{_BUILTIN}.events.rich_console:RichConsoleBus",
    },
    Seam.SKILLS: {"local": f"{_BUILTIN}.skills.local:LocalSkills"},
    Seam.DIAGNOSTICS: {
        "null": f"{_BUILTIN}.diagnostics.null:NullDiagnostics",
        "rich": f"{_BUILTIN}.diagnostics.rich:RichDiagnostics",
    },
}

#: Types of the openagents SDK that are not among the builtins: the package that each needs, and its class there, which
#: runs here by ``impl``.
ONLY_IN_SDK: Mapping[Seam, Mapping[str, tuple[str, str]]] = {
    Seam.MEMORY: {
        "mem0": ("mem0ai", f"{_SDK}.memory.mem0_memory.Mem0Memory"),
        "zep": ("zep-python", f"{_SDK}.memory.zep_memory.ZepMemory"),
    },
    Seam.TOOL: {"tavily_search": ("tavily-python", f"{_SDK}.tool.tavily_search.TavilySearchTool")},
    Seam.DIAGNOSTICS: {
        "langfuse": ("langfuse", f"{_SDK}.diagnostics.langfuse_plugin.LangfuseExporter"),
        "phoenix": ("arize-phoenix-otel", f"{_SDK}.diagnostics.phoenix_plugin.PhoenixExporter"),
    },
}

#: Builtins that need what only some extras bring: the package, and an extra that has it.
NEEDS_EXTRA: Mapping[Seam, Mapping[str, tuple[str, str]]] = {
    Seam.TOOL: {"http_request": ("httpx", "worker"), "mcp": ("mcp", "mcp")},
    Seam.EVENTS: {"otel_bridge": ("opentelemetry", "tracing"), "rich_console": ("rich", "cli")},
}

ENTRY_POINTS = "runlane.plugins"

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
    """What a decorator registered as ``name``, or None. One of the openagents SDK takes no builtin's place."""
    ours = _registered[seam].get(name)
    return decorated(seam, name) if ours is None and name not in BUILTINS.get(seam, {}) else ours


def builtin_path(seam: Seam, name: str) -> str | None:
    """``module:Class`` of a builtin, or None."""
    return BUILTINS.get(seam, {}).get(name)


def installed(seam: Seam, name: str) -> Offered | None:
    """What an installed package offers as ``name``, or None."""
    return offered(ENTRY_POINTS).get(f"{seam}.{name}")


def known_types(seam: Seam) -> list[str]:
    """Every type that can be loaded, sorted."""
    prefix = f"{seam}."
    offers = [name.removeprefix(prefix) for name in offered(ENTRY_POINTS) if name.startswith(prefix)]
    return sorted({*BUILTINS.get(seam, {}), *_registered[seam], *decorated_names(seam), *offers})


def _qualified_name(plugin: Any) -> str:
    return f"{getattr(plugin, '__module__', '?')}.{getattr(plugin, '__qualname__', type(plugin).__qualname__)}"
