"""Memory ``markdown_memory``: what is known of a user beyond a session, in files that people read and edit."""

from __future__ import annotations

import asyncio
import fcntl
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, Field, PositiveInt

from runtime_core.contracts.context import RunContext
from runtime_core.ids import DEFAULT_TENANT, digest
from runtime_core.plugins.builtin.tool.remember_preference import PENDING_WRITES_KEY
from runtime_core.plugins.typed_config import TypedConfig

_ENTRY = re.compile(
    r"^### (?P<id>[\w-]+) · (?P<timestamp>\S+)[ \t]*\n"
    r"\*\*Rule:\*\* (?P<rule>.*?)\n"
    r"\*\*Why:\*\* (?P<reason>.*?)$",
    re.MULTILINE,
)
_FOUND_AT_MOST = 20
_INDEX, _LOCK = "MEMORY.md", ".lock"


class MarkdownMemory(TypedConfig):
    """A file ``<section>.md`` per section, and ``MEMORY.md`` that lists them.

    1. A run is given each section's newest entries as ``memory_view[section]``, and the model is told of them.
    2. What a run leaves in its state under ``_pending_memory_writes`` is written once, also if an attempt is repeated.
    3. The directory is shared by all sessions and processes of this machine; a tenant other than ``default`` has one of
       its own in it, ``@<tenant>``. Workers on several machines need it on a shared volume, or each has a memory of its
       own.
    """

    class Config(BaseModel):
        memory_dir: Path = Path("~/.config/openagents/memory")
        #: Characters of a section that a run is given; the newest entry always is.
        max_chars_per_section: PositiveInt = 2_000
        sections: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]], Field(min_length=1)] = Field(
            default_factory=lambda: ["user_goals", "user_feedback", "decisions", "references"]
        )

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self._folder: Path = self.cfg.memory_dir.expanduser()

    async def inject(self, context: RunContext[Any]) -> None:
        self._enter(context)
        known = await asyncio.to_thread(self._newest)
        context.memory_view.update(known)
        lines = [f"- {section}: {entry['rule']}" for section, entries in known.items() for entry in entries]
        if lines:
            context.system_prompt_fragments.append("What is known from earlier conversations:\n" + "\n".join(lines))

    async def writeback(self, context: RunContext[Any]) -> None:
        self._enter(context)
        pending: list[dict[str, Any]] = context.state.get(PENDING_WRITES_KEY) or []
        for number, entry in enumerate(pending):
            identity = digest(f"{context.run_id}:{number}:{entry.get('rule')}".encode())[:8]
            category, rule, reason = (str(entry.get(name) or "") for name in ("category", "rule", "reason"))
            await asyncio.to_thread(self._write, category, rule, reason, identity)
        if pending:
            context.state[PENDING_WRITES_KEY] = []

    async def retrieve(self, query: str, context: RunContext[Any]) -> list[dict[str, Any]]:
        """Entries that contain ``query``, each with its section; 20 at the most."""
        self._enter(context)
        return await asyncio.to_thread(self._find, query.lower())

    def capture(self, category: str, rule: str, reason: str) -> str:
        """Write an entry into a section (an unknown one: ``user_feedback``, or else the first); returns its id."""
        return self._write(category, rule, reason, uuid4().hex[:8])

    def forget(self, entry_id: str) -> bool:
        """Remove an entry; False if there is none of that id."""
        with self._alone():
            for section in self.cfg.sections:
                text = self._text(section)
                for entry in _ENTRY.finditer(text):
                    if entry["id"] == entry_id:
                        self._replace(f"{section}.md", text[: entry.start()] + text[entry.end() :].lstrip("\n"))
                        self._list()
                        return True
        return False

    def list_entries(self, section: str) -> list[dict[str, Any]]:
        """``{"id", "timestamp", "rule", "reason"}`` each, oldest first."""
        return [entry.groupdict() for entry in _ENTRY.finditer(self._text(section))]

    def _enter(self, context: RunContext[Any]) -> None:
        """Use what is the tenant's; all runs of this object are of one session, so of one tenant."""
        if (tenant := context.scope.tenant) != DEFAULT_TENANT:
            self._folder = self.cfg.memory_dir.expanduser() / f"@{tenant}"

    def _write(self, category: str, rule: str, reason: str, entry_id: str) -> str:
        sections: list[str] = self.cfg.sections
        fallback = "user_feedback" if "user_feedback" in sections else sections[0]
        section = category if category in sections else fallback
        with self._alone():
            if all(entry["id"] != entry_id for entry in self.list_entries(section)):
                why = _one_line(reason) or "(no reason given)"
                entry = (
                    f"### {entry_id} · {datetime.now(UTC).isoformat()}\n**Rule:** {_one_line(rule)}\n**Why:** {why}\n\n"
                )
                text = self._text(section)
                gap = "" if not text or text.endswith("\n\n") else "\n\n"
                self._replace(f"{section}.md", text + gap + entry)
                self._list()
        return entry_id

    def _newest(self) -> dict[str, list[dict[str, Any]]]:
        return {section: self._within_limit(self.list_entries(section)) for section in self.cfg.sections}

    def _within_limit(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        room: int = self.cfg.max_chars_per_section
        first = len(entries)
        while first and (room := room - len(entries[first - 1]["rule"]) - len(entries[first - 1]["reason"])) >= 0:
            first -= 1
        return entries[min(first, max(0, len(entries) - 1)) :]

    def _find(self, query: str) -> list[dict[str, Any]]:
        found = [
            {**entry, "section": section}
            for section in self.cfg.sections
            for entry in self.list_entries(section)
            if query in entry["rule"].lower() or query in entry["reason"].lower()
        ]
        return found[:_FOUND_AT_MOST]

    def _list(self) -> None:
        lines = [f"- [{name}]({name}.md) — {len(self.list_entries(name))} entries" for name in self.cfg.sections]
        self._replace(_INDEX, "\n".join(["# Memory Index", "", *lines, ""]))

    def _text(self, section: str) -> str:
        try:
            return (self._folder / f"{section}.md").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _replace(self, name: str, text: str) -> None:
        begun = self._folder / f".{name}.begun"
        begun.write_text(text, encoding="utf-8", errors="replace")
        begun.replace(self._folder / name)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """No other process of this machine writes meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _one_line(text: str) -> str:
    return " ".join(text.split())
