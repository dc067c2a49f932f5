"""Skill packages on disk: a folder each, with a ``SKILL.md``, references, and code to run."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from runtime_core.errors import PermanentToolError, PluginError
from runtime_core.wording import in_words

logger = logging.getLogger(__name__)

_ENTRY_FUNCTION = "run_openagent_skill"
#: Bytes of one reference.
_LARGEST_REFERENCE = 1024 * 1024
_importing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class SkillPackage:
    name: str
    description: str
    display_name: str
    default_prompt: str
    folder: Path
    #: ``src/<package>/entrypoint.py``; None for a skill without code.
    entrypoint: Path | None

    def references(self) -> list[dict[str, str]]:
        """``{"path", "content"}`` of each file below ``references``, by name; a link out of there is left out."""
        folder = (self.folder / "references").resolve()
        found: list[dict[str, str]] = []
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            inside = path.resolve()
            if not (inside.is_file() and inside.is_relative_to(folder)):
                continue
            if inside.stat().st_size > _LARGEST_REFERENCE:
                logger.warning("the reference %s is left out: it has more than %d bytes", path, _LARGEST_REFERENCE)
                continue
            found.append({"path": str(path), "content": inside.read_text(encoding="utf-8", errors="replace")})
        return found

    def function(self) -> Callable[[dict[str, Any]], Any]:
        """The skill's code, imported. Raises PluginError that says what it lacks."""
        if self.entrypoint is None:
            raise PermanentToolError(f"the skill {self.name!r} has no code to run", hint="read its references")
        package, source = self.entrypoint.parent.name, str(self.entrypoint.parent.parent)
        try:
            with _importing:
                module = _import(f"{package}.entrypoint", package, source, self.entrypoint)
        except Exception as error:
            raise PluginError(
                f"the code of skill {self.name!r} cannot be imported: {in_words(error)}", hint=f"see {self.entrypoint}"
            ) from error
        function = getattr(module, _ENTRY_FUNCTION, None)
        if not callable(function):
            raise PluginError(
                f"the skill {self.name!r} does not define {_ENTRY_FUNCTION}(payload)", hint=f"see {self.entrypoint}"
            )
        return function


def find_packages(search_paths: Iterable[Path], enabled: Sequence[str]) -> dict[str, SkillPackage]:
    """Skills by name, all or the ``enabled`` ones; a folder that is not a sound skill is left out with a warning."""
    found: dict[str, SkillPackage] = {}
    for folder in _folders(search_paths):
        try:
            package = _read(folder)
        except (OSError, ValueError) as error:
            logger.warning("the skill in %s is left out: %s", folder, error)
            continue
        if not enabled or package.name in enabled:
            found.setdefault(package.name, package)
    return found


def _folders(search_paths: Iterable[Path]) -> Iterator[Path]:
    for root in search_paths:
        if root.is_dir():
            yield from sorted(folder for folder in root.iterdir() if (folder / "SKILL.md").is_file())


def _read(folder: Path) -> SkillPackage:
    head = _front_matter((folder / "SKILL.md").read_text(encoding="utf-8"))
    if not head.get("name"):
        raise ValueError("SKILL.md has no name in its front matter")
    shown = folder / "agents" / "openai.yaml"
    more = _mapping(yaml.safe_load(shown.read_text(encoding="utf-8"))) if shown.is_file() else {}
    name, description = str(head["name"]), str(head.get("description", ""))
    entrypoints = sorted((folder / "src").glob("*/entrypoint.py"))
    if len(entrypoints) > 1:
        raise ValueError("it has more than one src/<package>/entrypoint.py")
    return SkillPackage(
        name=name,
        description=description,
        display_name=str(more.get("display_name", name)),
        default_prompt=str(more.get("default_prompt", description)),
        folder=folder,
        entrypoint=entrypoints[0] if entrypoints else None,
    )


def _front_matter(text: str) -> dict[str, Any]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        raise ValueError("SKILL.md does not begin with front matter between two lines of ---")
    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    try:
        return _mapping(yaml.safe_load("\n".join(lines[1:end])))
    except yaml.YAMLError as error:
        raise ValueError(f"the front matter of SKILL.md is not YAML: {error}") from error


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _import(name: str, package: str, source: str, expected: Path) -> Any:
    """Import from ``source``; packages of two skills may have the same name."""
    known = sys.modules.get(name)
    if known is not None and Path(known.__file__ or "") != expected:
        for other in [one for one in sys.modules if one == package or one.startswith(f"{package}.")]:
            del sys.modules[other]
    sys.path.insert(0, source)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    finally:
        sys.path.remove(source)
