"""What commands print: JSON lines when piped, text with colour on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind

#: Characters of a table's cell beyond which its column is text, which wraps. A worker's name or a run id has fewer.
_WRAPPED_BEYOND = 40
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Output:
    """Standard output of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json or not sys.stdout.isatty()
        self._console = Console(highlight=False, soft_wrap=True)
        #: What the model said since its last start; shown already.
        self._said = ""
        #: Text stands on the current line.
        self._in_line = False
        #: Whose chunks are shown: a run, and its child runs, may take turns.
        self._run_id = ""

    def record(self, value: BaseModel | dict[str, Any], text: str) -> None:
        """One record: ``text`` for people, ``value`` for programs."""
        if self.as_json:
            self._line(value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value))
        else:
            self._console.print(plain(text))

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        records: Sequence[dict[str, Any]],
        *,
        empty: str,
    ) -> None:
        """Many records: a table of ``rows`` for people (``empty`` if there are none), ``records`` for programs."""
        if self.as_json:
            for record in records:
                self._line(json.dumps(record))
        elif not rows:
            self._console.print(plain(empty, "dim"))
        else:
            self._console.print(table_of(headings, rows), soft_wrap=False, crop=False)

    def result(self, result: RunResult) -> None:
        self.record(result, ending(result) if result.error_details else shown(result.final_output))

    def chunk(self, chunk: RunStreamChunk) -> None:
        if self.as_json:
            self._line(chunk.model_dump_json())
            return
        payload = chunk.payload
        if self._run_id and self._run_id != chunk.run_id:
            self._note(f"run {chunk.run_id}:", "dim")
        self._run_id = chunk.run_id
        match chunk.kind:
            case RunStreamChunkKind.STREAM_GAP:
                self._note(f"chunks {payload['from']} to {payload['to']} are no longer kept", "dim")
                self._said = (payload["snapshot"] or {}).get("text", "")
                self._in_line = bool(self._said)
                self._console.print(plain(self._said), end="")
            case RunStreamChunkKind.LLM_DELTA:
                text = str(payload.get("text", ""))
                self._said = self._said + text if self._in_line else text
                self._in_line = True
                self._console.print(plain(text), end="")
            case RunStreamChunkKind.LLM_FINISHED:
                self._end_line()  # its text was shown as it came
            case RunStreamChunkKind.RUN_FINISHED if chunk.result is not None:
                output = chunk.result.final_output
                if output is not None and output != self._said:
                    self._note(shown(output), "")
                self._note(ending(chunk.result), "bold")
            case RunStreamChunkKind.TOOL_STARTED:
                self._note(f"{payload.get('tool_id')} {short(payload.get('params'))}", "cyan")
            case RunStreamChunkKind.TOOL_FINISHED:
                failed = "error" in payload
                outcome = payload["error"] if failed else payload.get("result", payload.get("data"))
                self._note(f"{payload.get('tool_id')} → {short(outcome)}", "red" if failed else "cyan")
            case RunStreamChunkKind.TOOL_DELTA if payload.get("waiting_for") == "approval":
                asks = f"{payload.get('tool_id')} {short(payload.get('params'))} waits for a person:"
                self._note(f"{asks} runlane approve {chunk.run_id} {payload.get('call_id')}", "bold yellow")
            case _:
                self._note(f"{chunk.kind} {short(payload)}", "dim")

    def _note(self, text: str, style: str) -> None:
        self._end_line()
        self._console.print(plain(text, style))

    def _end_line(self) -> None:
        if self._in_line:
            self._console.print()
            self._in_line = False

    def _line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Ids and numbers stay whole, however narrow the terminal is; columns of long text wrap."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        longest = max(cell_len(text) for text in (heading, *(row[number] for row in rows)))
        is_text = longest > _WRAPPED_BEYOND
        table.add_column(heading, no_wrap=not is_text, min_width=None if is_text else longest)
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def plain(text: str, style: str = "") -> Text:
    """Text for a terminal, which must not obey what a model or a file says: control characters are shown, not sent."""
    return Text(text.translate(_CONTROLS), style=style)


def ending(result: RunResult) -> str:
    """How a run ended, in a line or two."""
    details = result.error_details
    if details is None:
        return (
            result.stop_reason.value if result.stop_reason is StopReason.COMPLETED else f"ended: {result.stop_reason}"
        )
    hint = f"\n  hint: {details.hint}" if details.hint else ""
    return f"{result.stop_reason}: {details.message} ({details.code}){hint}"


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def short(value: Any, limit: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
