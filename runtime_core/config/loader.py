"""Reading the agents file: text → mapping → ``${VAR}`` expanded → AppConfig, every failure with its place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from runtime_core.config.problems import describe_problems, field_path
from runtime_core.config.schema import AppConfig
from runtime_core.errors import ConfigLoadError, ConfigValidationError
from runtime_core.suggestions import near_match

_PLACEHOLDER = re.compile(r"\$(\$?)\{([^}]*)\}")
_VARIABLE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?::-(.*))?", re.DOTALL)
#: Values in a file, aliases counted where they are used: a few nested YAML aliases can stand for billions.
_MAX_VALUES = 100_000


def load_config(path: str | Path, *, environment: Mapping[str, str] | None = None) -> AppConfig:
    """The agents file at ``path``: JSON if its name ends in ``.json``, else YAML.

    Raises ConfigLoadError if it cannot be read, parsed or expanded, ConfigValidationError if it does not fit the
    schema. ``environment`` stands in for ``os.environ``.
    """
    path = Path(path)
    text = read_config_file(path)
    return load_config_text(text, source=str(path), is_json=path.suffix.lower() == ".json", environment=environment)


def read_config_file(path: Path) -> str:
    """The text of an agents file as it is. Raises ConfigLoadError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        similar = near_match(path.name, _names_in(path.parent))
        hint = f"did you mean {path.parent / similar}?" if similar else "give the path of a YAML or JSON file"
        raise ConfigLoadError(f"agents file {path} does not exist", hint=hint) from error
    except IsADirectoryError as error:
        raise ConfigLoadError(f"agents file {path} is a directory", hint="give the path of a file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigLoadError(
            f"agents file {path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
            hint="save it as UTF-8",
        ) from error
    except OSError as error:
        raise ConfigLoadError(
            f"agents file {path} cannot be read: {error.strerror or error}", hint="check its permissions"
        ) from error


def load_config_text(
    text: str, *, source: str, is_json: bool = False, environment: Mapping[str, str] | None = None
) -> AppConfig:
    """The agents file whose content is ``text``; ``source`` names it in errors."""
    try:
        payload = _parse_json(text) if is_json else yaml.load(text, Loader=_StrictLoader)
        payload = _Expansion(source, os.environ if environment is None else environment).expand(payload)
    except json.JSONDecodeError as error:
        raise _syntax_error(source, error.lineno, error.colno, error.msg, "JSON") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _syntax_error(source, line, column, error.problem or error.context or "syntax error", "YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigLoadError(f"{source} cannot be parsed: {error}", hint="correct the value") from error
    except RecursionError as error:
        raise ConfigLoadError(f"{source} is nested too deeply, or contains itself", hint="flatten it") from error
    return load_config_dict(payload, source=source)


def load_config_dict(payload: Any, *, source: str = "") -> AppConfig:
    """The config in ``payload``, taken as it is: no placeholder is expanded. Raises ConfigValidationError."""
    prefix = f"{source}: " if source else ""
    if not isinstance(payload, Mapping):
        kind = "empty" if payload is None else f"a {type(payload).__name__}"
        raise ConfigValidationError(
            f"{prefix}the configuration is {kind}, not a mapping", hint="its top level holds 'agents: […]'"
        )
    try:
        return AppConfig.model_validate(payload)
    except ValidationError as error:
        problems = describe_problems(error, AppConfig)
        raise ConfigValidationError(prefix + problems, hint="correct it, then check with: runlane validate") from error


class _Expansion:
    """Replaces ``${VAR}`` and ``${VAR:-default}`` in text; a default serves for an empty VAR too, ``$${`` is ``${``."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment
        self._values = 0

    def expand(self, value: Any, location: tuple[int | str, ...] = ()) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise ConfigLoadError(f"{self._source} holds more than {_MAX_VALUES:,} values", hint="use fewer aliases")
        if isinstance(value, str):
            return _PLACEHOLDER.sub(self._replacement(location), value)
        if isinstance(value, list):
            items = cast(list[Any], value)
            return [self.expand(item, (*location, position)) for position, item in enumerate(items)]
        if isinstance(value, dict):
            return {self._key(key, location): self.expand(item, (*location, str(key))) for key, item in value.items()}
        return value

    def _key(self, key: Any, location: tuple[int | str, ...]) -> str:
        if not isinstance(key, str):
            raise ConfigLoadError(
                f"{self._source}: {field_path((*location, str(key)))}: the name {key!r} is not text",
                hint="put the name in quotes",
            )
        return key

    def _replacement(self, location: tuple[int | str, ...]) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            escaped, expression = match.groups()
            if escaped:
                return match.group()[1:]
            where = f"{self._source}: {field_path(location) or 'the root'}"
            parts = _VARIABLE.fullmatch(expression)
            if parts is None:
                raise ConfigLoadError(
                    f"{where}: {match.group()!r} is not a placeholder",
                    hint="write ${NAME} or ${NAME:-default}; for a literal ${ write $${",
                )
            name, default = parts.groups()
            value = self._environment.get(name)
            if default is not None:
                return value or default
            if value is None:
                raise ConfigLoadError(
                    f"{where}: environment variable {name!r} is not set",
                    hint=f"set {name}, or give a default: ${{{name}:-…}}; for a literal ${{ write $${{",
                )
            return value

        return replace


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a name that stands twice in a mapping is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            name = key_node.value
            if isinstance(name, str) and name != "<<":
                if name in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice", key_node.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


def _parse_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
        return mapping

    return json.loads(text, object_pairs_hook=unique)


def _syntax_error(source: str, line: int, column: int, problem: str, language: str) -> ConfigLoadError:
    return ConfigLoadError(
        f"{source}, line {line}, column {column}: {problem}",
        hint=f"correct the {language} there; look just before it too",
    )


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
