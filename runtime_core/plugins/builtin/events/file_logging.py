"""Events ``file_logging``: a line of JSON per event, added to a file."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from runtime_core.errors import PluginConfigError
from runtime_core.events.bus import RuntimeEvent
from runtime_core.plugins.builtin.events.observing import ObservingBus, ObservingConfig
from runtime_core.redaction import SECRET_KEYS, redacted


class FileLoggingBus(ObservingBus):
    """``{"name", "payload", "ts"}`` per line; the payload carries the ids of its run.

    Each line is written to the file that has the name at that moment, so logrotate may move it away. The file grows
    without a bound of its own.
    """

    class Config(ObservingConfig):
        log_path: Path
        #: Keys of the payload whose values are not written.
        redact_keys: list[str] = Field(default_factory=lambda: list(SECRET_KEYS))
        #: Characters of a text.
        max_value_length: PositiveInt = 10_000

    cfg: Config

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self._path = self.cfg.log_path
        self._writing = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("a").close()
        except OSError as error:
            raise PluginConfigError(
                f"{type(self).__name__}: config.log_path cannot be written: {error}",
                hint="name a file in a directory in which this process may write",
            ) from error

    async def observe(self, event: RuntimeEvent) -> None:
        shown = redacted(event.stamped_payload, keys=self.cfg.redact_keys, max_length=self.cfg.max_value_length)
        time = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"name": event.name, "payload": shown, "ts": time}, ensure_ascii=False)
        await asyncio.to_thread(self._append, line + "\n")

    def _append(self, line: str) -> None:
        with self._writing, self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(line)
