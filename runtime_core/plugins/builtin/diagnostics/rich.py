"""Diagnostics ``rich``: a table on stderr for each run that ended, a panel for one that failed."""

from __future__ import annotations

import asyncio
from typing import Any

from runtime_core.contracts.diagnostics import ErrorSnapshot, LLMCallMetrics
from runtime_core.contracts.run import RunResult, RunUsage
from runtime_core.errors import PluginLoadError
from runtime_core.plugins.builtin.diagnostics.null import NullDiagnostics
from runtime_core.wording import harmless

#: Runs of which figures are held.
_MAX_RUNS = 1_000


class RichDiagnostics(NullDiagnostics):
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        try:
            from rich.console import Console
        except ModuleNotFoundError as error:
            raise PluginLoadError(
                "the diagnostics type 'rich' needs the package 'rich'", hint="pip install 'runlane[cli]'"
            ) from error
        self._console = Console(stderr=True, highlight=False)
        self._calls: dict[str, list[LLMCallMetrics]] = {}

    def record_llm_call(self, run_id: str, metrics: LLMCallMetrics) -> None:
        self._calls.setdefault(run_id, []).append(metrics)
        if len(self._calls) > _MAX_RUNS:  # a run that goes on elsewhere never ends here
            del self._calls[next(iter(self._calls))]

    def get_run_metrics(self, run_id: str) -> dict[str, Any]:
        """Sums of the requests that an executing run has made; empty for a run that made none, or has ended."""
        calls = self._calls.get(run_id, [])
        if not calls:
            return {}
        return {
            "llm_calls": len(calls),
            "llm_errors": sum(call.error is not None for call in calls),
            "input_tokens": sum(call.input_tokens for call in calls),
            "output_tokens": sum(call.output_tokens for call in calls),
            "cached_tokens": sum(call.cached_tokens for call in calls),
            "latencies_ms": [call.latency_ms for call in calls],
        }

    async def on_run_complete(self, result: RunResult, snapshot: ErrorSnapshot | None) -> None:
        metrics = self.get_run_metrics(result.run_id)
        self._calls.pop(result.run_id, None)
        shown = _table(result, metrics) if snapshot is None else _panel(snapshot)
        await asyncio.to_thread(self._console.print, shown)


def _table(result: RunResult, metrics: dict[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    usage = result.usage
    table = Table(title=f"run {result.run_id}: {result.stop_reason}", box=box.SIMPLE, show_header=False)
    table.add_column(style="bold cyan")
    table.add_column()
    table.add_row("requests to models", f"{usage.llm_calls} ({metrics.get('llm_errors', 0)} failed)")
    table.add_row("of them repeated", str(usage.llm_retry_count))
    table.add_row("tokens in / out", f"{usage.input_tokens} / {usage.output_tokens}")
    table.add_row("latency p50 / p95", f"{_ms(usage.llm_latency_p50_ms)} / {_ms(usage.llm_latency_p95_ms)}")
    table.add_row("first token", _ms(usage.ttft_ms))
    table.add_row("tool calls", str(usage.tool_calls))
    table.add_row("cost", _usd(usage))
    return table


def _panel(snapshot: ErrorSnapshot) -> Any:
    from rich.panel import Panel
    from rich.text import Text

    calls = [f"  → {call.get('tool_id')}  {call.get('params')}" for call in snapshot.tool_call_chain]
    text = Text.assemble(
        (snapshot.error_type, "bold red"),
        f" ({snapshot.error_code}): {harmless(snapshot.error_message)}\n\n",
        f"run {snapshot.run_id}, agent {snapshot.agent_id}, session {snapshot.session_id}\n\n",
        ("Tool calls\n", "bold"),
        harmless("\n".join(calls or ["  none"])),
        ("\n\nTraceback\n", "bold"),
        harmless(snapshot.traceback),
    )
    return Panel(text, title="run failed", border_style="red")


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} ms"


def _usd(usage: RunUsage) -> str:
    return "unknown" if usage.cost_usd is None else f"{usage.cost_usd:.6f} USD"
