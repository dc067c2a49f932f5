"""What the demo shows: chunks as they arrive, then a table. Lines when piped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runtime_core.contracts.run import RunResult
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind

#: Characters of an answer that a line shows.
_WIDTH = 60


@dataclass(eq=False)
class Session:
    """One conversation of the demo, and what came of it."""

    session_id: str
    agent_id: str
    questions: list[str]
    #: Chunks seen so far, over all its runs.
    chunks: int = 0
    question: str = ""
    #: The answer so far.
    answer: str = ""
    results: list[RunResult] = field(default_factory=list[RunResult])
    #: Milliseconds from submit to the first chunk of the worker, per run.
    first_chunk_ms: list[float] = field(default_factory=list[float])

    def finished(self, result: RunResult, first_chunk_ms: float) -> None:
        self.results.append(result)
        self.first_chunk_ms.append(first_chunk_ms)

    @property
    def workers(self) -> str:
        return ", ".join(sorted({str(result.metadata.get("worker")) for result in self.results}))

    @property
    def cache_hits(self) -> int:
        return sum(bool(result.metadata.get("cache_hit")) for result in self.results)


class Board:
    """The screen, or the pipe."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._sessions: dict[str, Session] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def chunk(self, session: Session, question: str, chunk: RunStreamChunk) -> None:
        """A chunk has arrived: change the session's line, or write one."""
        session.chunks += 1
        match chunk.kind:
            case RunStreamChunkKind.RUN_QUEUED:
                session.question, session.answer = question, ""
            case RunStreamChunkKind.LLM_DELTA:
                session.answer += str(chunk.payload.get("text", ""))
            case _:
                pass
        if not self._console.is_terminal:
            self._console.print(
                Text(f"{session.session_id} #{chunk.sequence} {chunk.kind} {_short(json.dumps(chunk.payload))}")
            )
            return
        self._sessions[session.session_id] = session
        if self._live is None:
            self._live = Live(console=self._console, get_renderable=self._lines, refresh_per_second=15)
            self._live.start()

    def table(self, sessions: list[Session]) -> None:
        """Who served which session, and how quickly."""
        self._end_live()
        table = Table(title="Sessions, and who kept their plugins warm")
        for heading in ("session", "worker"):
            table.add_column(heading)
        for heading in ("runs", "plugin cache hits", "time to first chunk (median)"):
            table.add_column(heading, justify="right")
        for session in sessions:
            table.add_row(
                session.session_id,
                session.workers,
                str(len(session.results)),
                str(session.cache_hits),
                f"{median(session.first_chunk_ms):.0f} ms",
            )
        Console(highlight=False, width=None if self._console.is_terminal else 110).print(table)

    def _lines(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for session in sorted(self._sessions.values(), key=lambda session: session.session_id):
            table.add_row(
                Text(session.session_id, style="bold cyan"),
                Text(f"{session.chunks:>3} chunks", style="dim"),
                Text(_short(session.question, 28)),
                Text(_short(session.answer), style="green"),
            )
        return table

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _short(text: str, width: int = _WIDTH) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
