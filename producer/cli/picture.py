"""What a command that looks at the fleet shows: once, or again and again (``--watch``)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from producer.cli.output import plain, table_of
from runtime_core.errors import RunlaneError


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table for people; ``empty`` stands in its place if it has no rows."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What is shown of one look."""

    #: For people, from top to bottom.
    parts: Sequence[str | Grid]
    #: For programs: one JSON object.
    record: dict[str, Any]
    #: For programs that look once: a line for each, instead of the record.
    lines: Sequence[dict[str, Any]] | None = None


async def show(take: Callable[[], Awaitable[Picture]], *, as_json: bool) -> Picture:
    """Look once, print what is seen, and return it."""
    picture = await take()
    if as_json or not sys.stdout.isatty():
        for record in [picture.record] if picture.lines is None else picture.lines:
            _write(record)
    else:
        _console().print(_drawn(picture), crop=False)
    return picture


async def watch(take: Callable[[], Awaitable[Picture]], *, every: float, as_json: bool) -> None:
    """Look each ``every`` seconds, until Ctrl-C: redraw a terminal, or write a JSON line for each look.

    A look that fails is shown in its place, for an outage is what one watches for; only the first may raise.
    """
    picture = await take()
    if as_json or not sys.stdout.isatty():
        _write(picture.record)
        while True:
            await asyncio.sleep(every)
            _write((await _next(take)).record)
    with Live(_drawn(picture), console=_console(), screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every)
            live.update(_drawn(await _next(take)), refresh=True)


async def look(take: Callable[[], Awaitable[Picture]], *, again: bool, every: float, as_json: bool) -> None:
    """``watch`` or ``show``."""
    if again:
        await watch(take, every=every, as_json=as_json)
    else:
        await show(take, as_json=as_json)


async def _next(take: Callable[[], Awaitable[Picture]]) -> Picture:
    try:
        return await take()
    except RunlaneError as error:
        return Picture(parts=[f"error: {error}"], record={"error": error.to_dict()})


def _drawn(picture: Picture) -> RenderableType:
    return Group(*(plain(part) if isinstance(part, str) else _table(part) for part in picture.parts))


def _table(grid: Grid) -> RenderableType:
    return table_of(grid.headings, grid.rows) if grid.rows else plain(grid.empty, "dim")


def _console() -> Console:
    return Console(highlight=False)


def _write(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def facts(values: dict[str, str]) -> str:
    """Names and values in two columns."""
    width = max(map(len, values)) + 2
    return "\n".join(name.ljust(width) + value.replace("\n", "\n" + " " * width) for name, value in values.items())
