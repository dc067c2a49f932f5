"""What commands print: JSON lines when piped, text with colour on a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind


class Output:
    """Standard output of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json or not sys.stdout.isatty()
        self._console = Console(highlight=False, soft_wrap=True)
        #: What the model said since the last note; it stands on the current line.
        self._text = ""

    def record(self, value: BaseModel | dict[str, Any], text: str) -> None:
        """One record: ``text`` for people, ``value`` for programs."""
        if self.as_json:
            self._line(value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value))
        else:
            self._console.print(Text(text))

    def result(self, result: RunResult) -> None:
        self.record(result, ending(result) if result.error_details else _shown(result.final_output))

    def chunk(self, chunk: RunStreamChunk) -> None:
        if self.as_json:
            self._line(chunk.model_dump_json())
            return
        payload = chunk.payload
        match chunk.kind:
            case RunStreamChunkKind.LLM_DELTA:
                text = str(payload.get("text", ""))
                self._text += text
                self._console.print(Text(text), end="")
            case RunStreamChunkKind.RUN_FINISHED if chunk.result is not None:
                output = chunk.result.final_output
                if output is not None and output != self._text:
                    self._note(_shown(output), "")
                self._note(ending(chunk.result), "bold")
            case RunStreamChunkKind.TOOL_STARTED:
                self._note(f"{payload.get('tool_id')} {_short(payload.get('params'))}", "cyan")
            case RunStreamChunkKind.TOOL_FINISHED:
                failed = "error" in payload
                outcome = payload["error"] if failed else payload.get("result", payload.get("data"))
                self._note(f"{payload.get('tool_id')} → {_short(outcome)}", "red" if failed else "cyan")
            case _:
                self._note(f"{chunk.kind} {_short(payload)}", "dim")

    def _note(self, text: str, style: str) -> None:
        if self._text:
            self._console.print()
            self._text = ""
        self._console.print(Text(text, style=style))

    def _line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def ending(result: RunResult) -> str:
    """How a run ended, in a line or two."""
    details = result.error_details
    if details is None:
        return (
            result.stop_reason.value if result.stop_reason is StopReason.COMPLETED else f"ended: {result.stop_reason}"
        )
    hint = f"\n  hint: {details.hint}" if details.hint else ""
    return f"{result.stop_reason}: {details.message} ({details.code}){hint}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _short(value: Any, limit: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
