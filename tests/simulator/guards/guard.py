"""What a guard is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A text that stands in its file exactly once, what takes its place, and the directed histories of which one fails
    then.
    """

    #: What it is there for.
    name: str
    file: str
    text: str
    without: str
    scenes: tuple[str, ...]


def script_guard(script: str, name: str, text: str, without: str, *scenes: str) -> Guard:
    """One in a script of the store."""
    return Guard(name=name, file=f"runtime_core/store/lua/{script}.lua", text=text, without=without, scenes=scenes)


def worker_guard(module: str, name: str, text: str, without: str, *scenes: str) -> Guard:
    """One in a module of the worker."""
    return Guard(name=name, file=f"workers/{module}.py", text=text, without=without, scenes=scenes)
