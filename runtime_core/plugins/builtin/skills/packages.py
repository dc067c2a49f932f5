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
from runtime_core.suggestions import did_you_mean
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
    #: The text of ``SKILL.md`` below its front matter.
    instructions: str
    folder: Path
    #: ``src/<package>/entrypoint.py``; None for a skill without code.
    entrypoint: Path | None

    def references(self) -> list[dict[str, str]]:
        """``{"path", "content"}`` of each file below ``references``, by name; a link out of the skill is left out."""
        folder, skill = self.folder / "references", self.folder.resolve()
        found: list[dict[str, str]] = []
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            inside = path.resolve()
            if not (inside.is_file() and inside.is_relative_to(skill)):
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
        except (Exception, SystemExit) as error:
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
        if (first := found.setdefault(package.name, package)) is not package:
            logger.warning("the skill in %s is left out: %s has the same name", folder, first.folder)
    for name in set(enabled) - found.keys():
        logger.warning("there is no skill %r to be enabled. %s", name, did_you_mean(name, found))
    return {name: package for name, package in found.items() if not enabled or name in enabled}


def _folders(search_paths: Iterable[Path]) -> Iterator[Path]:
    for root in search_paths:
        if root.is_dir():
            yield from sorted(folder for folder in root.iterdir() if (folder / "SKILL.md").is_file())


def _read(folder: Path) -> SkillPackage:
    head, instructions = _front_matter((folder / "SKILL.md").read_text(encoding="utf-8"))
    if not head.get("name"):
        raise ValueError("SKILL.md has no name in its front matter")
    shown = folder / "agents" / "openai.yaml"
    more = _flat(shown.read_text(encoding="utf-8").splitlines()) if shown.is_file() else {}
    name, description = str(head["name"]), str(head.get("description") or "").strip()
    entrypoints = sorted((folder / "src").glob("*/entrypoint.py"))
    if len(entrypoints) > 1:
        raise ValueError("it has more than one src/<package>/entrypoint.py")
    return SkillPackage(
        name=name,
        description=description,
        display_name=more.get("display_name", name),
        default_prompt=more.get("default_prompt", description),
        instructions=instructions,
        folder=folder,
        entrypoint=entrypoints[0] if entrypoints else None,
    )


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """(its fields, what comes below it)"""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        raise ValueError("SKILL.md does not begin with front matter between two lines of ---")
    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    head = lines[1:end]
    try:
        fields: Any = yaml.safe_load("\n".join(head))
    except yaml.YAMLError:
        # A description with a colon in it is common, and not YAML without quotes.
        fields = _flat(head)
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}, "\n".join(lines[end + 1 :]).strip()


def _flat(lines: Iterable[str]) -> dict[str, str]:
    """``name: value`` of each line, however deep it stands."""
    pairs = (line.strip().partition(":") for line in lines if not line.strip().startswith("#"))
    return {key.strip(): _unquoted(value.strip()) for key, separator, value in pairs if separator and key.strip()}


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


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
