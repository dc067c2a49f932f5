"""How the workers' answers to a command are shown: a table with a row per worker, or one JSON record."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from producer.cli.exits import CommandFailed, ExitCode

if TYPE_CHECKING:
    from producer.cli.output import Output
    from producer.fleet import Progress
    from producer.reports import FleetReport


def show_answers(output: Output, report: FleetReport, record: dict[str, Any], headline: str) -> None:
    """Print ``record`` with the answers, or ``headline`` and the table.

    Raises CommandFailed with exit code 3, which names them, if a worker did not answer or could not do it.
    """
    rows = sorted(report.answers.items())
    workers = [
        {
            "worker": worker,
            "ok": answer.ok,
            "answer": answer.text,
            **answer.values,
            "error": answer.error.model_dump() if answer.error else None,
        }
        for worker, answer in rows
    ]
    output.record(record | {"ok": report.ok, "workers": workers}, headline)
    if not output.as_json:
        output.table(
            ("worker", "", "answer"),
            [(worker, "ok" if answer.ok else "FAILED", answer.text) for worker, answer in rows],
            [],
            empty="no worker lives: start one with `runlane worker`",
        )
    if not report.ok:
        named = [f"error: {worker}: {answer.text}" for worker, answer in rows if not answer.ok]
        raise CommandFailed(ExitCode.FAILED, "" if sys.stdout.isatty() else "\n".join(named))


@contextmanager
def shown_progress() -> Generator[Progress]:
    """On a terminal a line that says who is still waited for."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("asking the workers …") as status:

        def progress(report: FleetReport) -> None:
            if report.waiting:
                status.update(f"waiting for {', '.join(sorted(report.waiting))} …")

        yield progress
