"""Events ``rich_console``: events as people read them, while they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from runtime_core.errors import PluginLoadError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.plugins.builtin.events.observing import ObservingBus, ObservingConfig
from runtime_core.redaction import SECRET_KEYS, redacted
from runtime_core.wording import harmless


class RichConsoleBus(ObservingBus):
    """A panel per event with its payload, or with ``show_payload: false`` a line."""

    class Config(ObservingConfig):
        #: Keys of the payload whose values are not shown.
        redact_keys: list[str] = Field(default_factory=lambda: list(SECRET_KEYS))
        #: Characters of a text.
        max_value_length: PositiveInt = 500
        show_payload: bool = True
        stream: Literal["stdout", "stderr"] = "stderr"

    cfg: Config

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        try:
            from rich.console import Console
        except ModuleNotFoundError as error:
            raise PluginLoadError(
                "the events type 'rich_console' needs the package 'rich'", hint="pip install 'runlane[cli]'"
            ) from error
        self._console = Console(stderr=self.cfg.stream == "stderr", highlight=False)

    async def observe(self, event: RuntimeEvent) -> None:
        payload = redacted(event.stamped_payload, keys=self.cfg.redact_keys, max_length=self.cfg.max_value_length)
        shown = _panel(event.name, payload) if self.cfg.show_payload else _line(event.name, payload)
        await asyncio.to_thread(self._console.print, shown)


def _panel(name: str, payload: dict[str, Any]) -> Any:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column()
    for key, value in payload.items():
        table.add_row(Text(f"{harmless(key)} ="), Text(_text(value, indent=2)))
    return Panel(table, title=Text(harmless(name)), title_align="left")


def _line(name: str, payload: dict[str, Any]) -> Any:
    from rich.text import Text

    pairs = (f"  {harmless(key)}={_text(value)}" for key, value in payload.items())
    return Text.assemble((harmless(name), "bold"), *pairs)


def _text(value: Any, indent: int | None = None) -> str:
    return harmless(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent))
