"""Distributions that are installed for a test: a directory with the metadata that pip would write."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime_core.plugins.entry_points import offered


@contextmanager
def installed(
    directory: Path, name: str, *, modules: Mapping[str, str], entry_points: str, monkeypatch: pytest.MonkeyPatch
) -> Generator[None]:
    """The distribution ``name`` with ``modules`` (name → source) on the path; both are forgotten in the end."""
    for module, source in modules.items():
        (directory / f"{module}.py").write_text(source)
    metadata = directory / f"{name.replace('-', '_')}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(directory)
    offered.cache_clear()
    try:
        yield
    finally:
        offered.cache_clear()
        for module in modules:
            sys.modules.pop(module, None)
